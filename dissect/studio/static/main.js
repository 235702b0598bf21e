// The page: its rooms, its theme, its keys, and the state in its address.

import { annotateRoom } from "./annotate.js";
import { get } from "./api.js";
import { $, element, notice, typing } from "./dom.js";
import { exploreRoom } from "./explore.js";
import { EVERYWHERE } from "./keys.js";
import { walkRoom } from "./walk.js";

const rooms = new Map();
let current = null;
let remembering = 0;

/** The room and its words, as they stand after the # of the address. */
function address() {
  const [name, words = ""] = location.hash.slice(1).split("?");
  return { name, words: new URLSearchParams(words) };
}

/** Keep a view in the address, so that it can be come back to and shared. */
function remember(name, words) {
  if (name !== current) return;
  const text = new URLSearchParams(words).toString();
  // Browsers refuse to be told of a new address at every step of a slider.
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    if (name === current) history.replaceState(null, "", `#${name}${text ? `?${text}` : ""}`);
  }, 200);
}

async function enter(name, words = new URLSearchParams()) {
  current = name;
  for (const [other, room] of rooms) {
    room.node.hidden = other !== name;
    const tab = room.tab;
    if (other === name) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  try {
    await rooms.get(name).enter(words);
  } catch (error) {
    notice(error.message);
  }
}

/** A room; of its title, `more` is left out where there is little room. */
function addRoom(name, title, room, more = "") {
  const tab = element("button", { type: "button" }, title, element("span", { className: "long", textContent: more }));
  tab.addEventListener("click", () => {
    history.replaceState(null, "", `#${name}`);
    enter(name);
  });
  $("tabs").append(tab);
  rooms.set(name, { ...room, tab, node: $(name) });
}

function showKeys() {
  $("key-list").replaceChildren(...[...EVERYWHERE, ...rooms.get(current).keys].map(([title, keys]) => {
    const rows = keys.map(([key, meaning]) => {
      const words = key.split(" ").map((one) => element("kbd", { textContent: one }));
      const named = element("dt", {}, ...words.flatMap((word) => [word, " "]));
      return element("div", {}, named, element("dd", { textContent: meaning }));
    });
    return element("section", {}, element("h3", { textContent: title }), element("dl", {}, ...rows));
  }));
  $("keys").showModal();
}

function press(event) {
  if ($("keys").open || typing(event) || event.altKey) return;
  const room = rooms.get(current);
  if (event.ctrlKey || event.metaKey) {
    const key = event.key.toLowerCase();
    if (key === "z" || key === "y") {
      event.preventDefault();
      if (key === "y" || event.shiftKey) room.redo?.();
      else room.undo?.();
    }
    return;
  }
  if (event.key === "?") showKeys();
  else if (!room.press?.(event)) return;
  event.preventDefault();
}

function theme() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const now = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");
  const tell = () => {
    $("theme").textContent = now() === "dark" ? "Light" : "Dark";
    $("theme").setAttribute("aria-label", `Use the ${now() === "dark" ? "light" : "dark"} theme`);
  };
  const kept = localStorage.getItem("theme");
  if (kept) root.dataset.theme = kept;
  dark.addEventListener("change", tell);
  $("theme").addEventListener("click", () => {
    root.dataset.theme = now() === "dark" ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
    tell();
  });
  tell();
}

async function start() {
  theme();
  const about = await get("workspace");
  document.title = `${about.title} · dissect`;
  $("title").textContent = about.title;
  if (about.annotation) addRoom("annotate", "Annotate", annotateRoom(about.annotation, remember));
  if (about.models.length) {
    addRoom("explore", "Explore", exploreRoom(about.models, remember));
    addRoom("walk", "Walk", walkRoom(about.models, remember), " and turn");
  }
  $("tabs").hidden = rooms.size < 2;
  $("help").addEventListener("click", showKeys);
  document.addEventListener("keydown", press);
  addEventListener("hashchange", () => {
    const { name, words } = address();
    if (rooms.has(name)) enter(name, words);
  });
  const { name, words } = address();
  const first = about.models.length ? "explore" : "annotate";
  await enter(rooms.has(name) ? name : first, words);
  document.body.dataset.ready = "yes";
}

start().catch((error) => notice(error.message));
