// The room in which boxes are drawn.

import { get, Gone, latest, post, Refused } from "./api.js";
import { $, boxCount, dismiss, element, notice, saved, text } from "./dom.js";
import { History } from "./history.js";
import { ANNOTATE } from "./keys.js";
import { makeSheet } from "./sheet.js";
import { boxText, makeStage } from "./stage.js";

const RETRY = 1500; // milliseconds until a change is sent again to a server that was gone
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const wait = (time) => new Promise((resolve) => setTimeout(resolve, time));
const boxesIn = (kept) => kept?.boxes.reduce((sum, one) => sum + (one?.length ?? 0), 0) ?? 0;
const source = (place) => `api/picture/${place}.png`;

export function annotateRoom(about, remember) {
  const size = { width: about.width, height: about.height };
  const count = about.names.length;
  const drawn = new Map(); // what is drawn, by concept and pass: boxes, versions, file
  const queue = []; // changes that the server has not confirmed yet, oldest first
  let sending = false;
  let concept = about.concepts[0];
  let pass = "first";
  let place = 0;
  let sheetShown = false;

  const history = new History(() => {
    $("undo").disabled = !history.canUndo;
    $("redo").disabled = !history.canRedo;
  });
  const stage = makeStage($("stage"), size, { commit: (boxes) => change(boxes), choose: listBoxes });
  const sheet = makeSheet($("thumbs"), count, size, source, (chosen) => {
    showSheet(false);
    go(chosen);
  });

  const key = (name, which) => `${which}/${name}`;
  const mine = () => drawn.get(key(concept, pass));
  const hue = (name) => about.concepts.indexOf(name) % 8;

  async function load(name, which) {
    if (drawn.has(key(name, which))) return;
    drawn.set(key(name, which), await get("boxes", { concept: name, pass: which }));
  }

  /** Draw boxes, here and on the disk; null is "not looked at". */
  function change(boxes, { at = place, name = concept, which = pass, step = true } = {}) {
    const kept = drawn.get(key(name, which));
    const before = kept.boxes[at];
    if (step) history.push({ name, which, at, before, after: boxes });
    kept.boxes[at] = boxes;
    queue.push({ name, which, at, boxes });
    send();
    refresh();
  }

  async function send() {
    if (sending) return;
    sending = true;
    while (queue.length) {
      saved("saving…", queue.length > 3);
      const { name, which, at, boxes } = queue[0];
      const kept = drawn.get(key(name, which));
      const body = { concept: name, pass: which, position: at, boxes, version: kept.versions[at] };
      try {
        const answer = await post("boxes", body);
        kept.versions[at] = answer.version;
        dismiss("gone");
        queue.shift();
      } catch (error) {
        if (error instanceof Gone) {
          saved(`${queue.length} not saved`, true);
          const kept = "Boxes drawn meanwhile stay here and are sent again.";
          notice(`Not saved: ${error.message} ${kept}`, { id: "gone" });
          await wait(RETRY);
        } else if (error.status === 409 && String(error.body.boxes) === String(boxes)) {
          // It had been saved, and only the answer was lost.
          kept.versions[at] = error.body.version;
          queue.shift();
        } else await refused(error, name, which, at);
      }
    }
    sending = false;
    saved("saved");
    agree();
  }

  /** Show what the server has instead, and forget what was built on what it refused. */
  async function refused(error, name, which, at) {
    const same = (one) => one.name === name && one.which === which && one.at === at;
    for (let number = queue.length - 1; number >= 0; number -= 1) {
      if (same(queue[number])) queue.splice(number, 1);
    }
    history.forget(same);
    notice(error.message, { id: "refused" });
    const kept = drawn.get(key(name, which));
    if (error instanceof Refused && error.status === 409) {
      kept.boxes[at] = error.body.boxes;
      kept.versions[at] = error.body.version;
    } else {
      try {
        drawn.set(key(name, which), await get("boxes", { concept: name, pass: which }));
      } catch (again) {
        notice(again.message, { id: "refused" });
      }
    }
    refresh();
  }

  function travel(step, boxes) {
    if (!step) return;
    concept = step.name;
    pass = step.which;
    $("second").checked = pass === "second";
    stage.pick(-1);
    go(step.at);
    change(boxes(step), { step: false });
  }

  /** Turn to a pass, once its boxes are here. */
  async function turn(which) {
    for (const name of about.concepts) await load(name, which);
    pass = which;
    stage.pick(-1);
  }

  async function choosePass(which) {
    try {
      await turn(which);
    } catch (error) {
      notice(error.message, { id: "pass" });
    }
    $("second").checked = pass === "second";
    go(place);
    agree();
  }

  function go(to) {
    const moved = Math.min(Math.max(to, 0), count - 1);
    if (moved !== place) stage.pick(-1);
    place = moved;
    refresh();
    new Image().src = source(Math.min(place + 1, count - 1));
  }

  function refresh() {
    const kept = mine();
    if (!kept) return;
    const boxes = kept.boxes[place];
    const rest = about.concepts.filter((name) => name !== concept).map((name) => ({
      boxes: drawn.get(key(name, pass))?.boxes[place] ?? [],
      hue: hue(name),
    }));
    stage.show({
      src: source(place), alt: about.names[place], mine: boxes ?? [], rest, name: concept, hue: hue(concept),
    });
    const done = kept.boxes.filter((one) => one !== null).length;
    $("done").max = count;
    $("done").value = done;
    $("progress").textContent = `${done} of ${count} looked at, ${boxCount(boxesIn(kept))} of ${concept}`;
    $("place").value = place + 1;
    $("place").max = count;
    $("of").textContent = `of ${count}`;
    $("previous").disabled = place === 0;
    $("next").disabled = place === count - 1;
    $("name").textContent = about.names[place];
    // A long path is broken after its slashes.
    $("file").replaceChildren(...kept.file.split(/(?<=[/\\])/).flatMap((part) => [part, element("wbr")]));
    $("unmark").disabled = boxes === null;
    $("mark").textContent = boxes === null ? "Not looked at yet."
      : boxes.length ? "" : `Looked at: no ${concept} here.`;
    for (const label of $("concepts").querySelectorAll("label")) {
      const total = boxesIn(drawn.get(key(label.dataset.concept, pass)));
      label.querySelector(".count").textContent = total;
      const radio = label.querySelector("input");
      radio.setAttribute("aria-label", `${label.dataset.concept}, ${boxCount(total)}`);
      radio.checked = label.dataset.concept === concept;
    }
    listBoxes(stage.chosen);
    if (sheetShown) sheet.show(kept.boxes, place, hue(concept));
    cover();
    remember("annotate", {
      concept, place: place + 1, ...(pass === "second" && { pass }), ...(sheetShown && { view: "sheet" }),
      ...($("grid").value && { grid: $("grid").value }),
    });
  }

  function listBoxes(chosen) {
    const boxes = mine()?.boxes[place] ?? [];
    $("list").replaceChildren(...boxes.map((box, number) => {
      const pick = element("button", { type: "button", className: "pick", textContent: boxText(box) });
      pick.setAttribute("aria-pressed", number === chosen);
      pick.addEventListener("click", () => stage.pick(number, true));
      const remove = element("button", { type: "button", textContent: "✕" });
      remove.setAttribute("aria-label", `Delete box ${number + 1}`);
      remove.addEventListener("click", () => { stage.pick(number); stage.remove(); });
      return element("li", {}, pick, remove);
    }));
  }

  const cover = latest(async () => {
    const grid = about.grids.find(({ name }) => name === $("grid").value);
    const boxes = mine().boxes[place] ?? [];
    if (!grid) {
      stage.cover(null);
      $("cells").textContent = "";
      return;
    }
    try {
      const { coverage } = await post("coverage", { boxes, rows: grid.rows, columns: grid.columns });
      stage.cover(coverage);
      const flat = coverage.flat();
      const positive = flat.filter((share) => share >= 0.5).length;
      const touched = flat.filter((share) => share > 0).length - positive;
      $("cells").textContent =
        `${positive} cells at least half inside: positive. ${touched} touched: neither.`;
    } catch (error) {
      notice(error.message, { id: "cover" });
    }
  });

  async function agree() {
    if (pass !== "second") {
      $("agreement").textContent = "";
      return;
    }
    try {
      const found = await get("agreement", { concept });
      const single = found.only_first + found.only_second;
      const both = `Pictures in both passes: ${found.images}.`;
      $("agreement").textContent = found.paired || single
        ? `${both} Boxes that pair: ${found.paired}, mean IoU ${found.mean_iou.toFixed(3)}; `
          + `without a partner: ${single}.`
        : both;
    } catch (error) {
      notice(error.message, { id: "agree" });
    }
  }

  function showSheet(shown) {
    sheetShown = shown;
    $("thumbs").hidden = !shown;
    $("stage").hidden = shown;
    $("zoom").hidden = shown;
    $("sheet").setAttribute("aria-pressed", shown);
    refresh();
    if (shown) sheet.focus(place);
  }

  function accept() {
    // Looked at, with boxes or without: only now does a picture without any count.
    if (mine().boxes[place] === null) change([]);
    if (place < count - 1) go(place + 1);
  }

  function choose(name) {
    concept = name;
    stage.pick(-1);
    go(place);
    agree();
  }

  for (const [number, name] of about.concepts.entries()) {
    const radio = element("input", { type: "radio", name: "concept", value: name });
    radio.addEventListener("change", () => choose(name));
    const label = element("label", { className: `hue${hue(name)}` }, radio,
      text("swatch", ""), name, text("count quiet", ""),
      ...(number < 9 ? [element("kbd", { textContent: number + 1 })] : []));
    label.dataset.concept = name;
    $("concepts").append(label);
  }
  for (const grid of about.grids) {
    const textContent = `${grid.name} (${grid.rows} × ${grid.columns})`;
    $("grid").append(element("option", { value: grid.name, textContent }));
  }
  $("grid").addEventListener("change", refresh);
  $("second").addEventListener("change", (event) => choosePass(event.target.checked ? "second" : "first"));
  $("previous").addEventListener("click", () => go(place - 1));
  $("next").addEventListener("click", () => go(place + 1));
  $("place").addEventListener("change", (event) => go((Number(event.target.value) || 1) - 1));
  $("accept").addEventListener("click", accept);
  $("undo").addEventListener("click", () => undo());
  $("redo").addEventListener("click", () => redo());
  $("smaller").addEventListener("click", () => stage.zoom(-1));
  $("larger").addEventListener("click", () => stage.zoom(1));
  $("fit").addEventListener("click", () => stage.fit());
  $("sheet").addEventListener("click", () => showSheet(!sheetShown));
  $("add").addEventListener("click", () => stage.add());
  $("unmark").addEventListener("click", () => { stage.pick(-1); change(null); });
  addEventListener("beforeunload", (event) => queue.length && event.preventDefault());
  history.changed();

  const undo = () => travel(history.undo(), (step) => step.before);
  const redo = () => travel(history.redo(), (step) => step.after);

  const actions = {
    n: () => stage.add(),
    g: () => {
      const select = $("grid");
      // The grid that was shown last, or the paper's.
      if (select.value) [select.dataset.last, select.value] = [select.value, ""];
      else {
        const names = about.grids.map(({ name }) => name);
        const paper = names.includes("layer8x8") ? "layer8x8" : names[0];
        select.value = select.dataset.last ?? paper ?? "";
      }
      refresh();
    },
    s: () => showSheet(!sheetShown),
    "+": () => stage.zoom(1),
    "=": () => stage.zoom(1),
    "-": () => stage.zoom(-1),
    0: () => stage.fit(),
    Escape: () => (sheetShown ? showSheet(false) : stage.escape()),
    Delete: () => stage.remove(),
    Backspace: () => stage.remove(),
  };

  return {
    keys: ANNOTATE,
    undo,
    redo,
    press(event) {
      const arrow = ARROWS[event.key];
      if (arrow && !sheetShown) {
        if (stage.chosen >= 0) stage.nudge(...arrow, event.shiftKey);
        else if (arrow[0]) go(place + arrow[0]);
        return true;
      }
      if (event.key === "Enter" && !(event.target instanceof HTMLButtonElement)) {
        accept();
        return true;
      }
      if (/^[1-9]$/.test(event.key) && about.concepts[event.key - 1]) {
        choose(about.concepts[event.key - 1]);
        return true;
      }
      const act = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      act?.();
      return Boolean(act);
    },
    async enter(words) {
      const asked = words.get("concept");
      if (about.concepts.includes(asked)) concept = asked;
      else if (asked) notice(`There is no concept “${asked}” to draw; ${concept} is shown.`, { id: "concept" });
      // Without its boxes there is nothing to show; the second pass may be missing.
      await turn(words.size ? "first" : pass);
      if (words.get("pass") === "second") await choosePass("second");
      if (words.has("grid")) $("grid").value = words.get("grid");
      $("grid").closest("section").hidden = !about.grids.length;
      go((Number(words.get("place")) || place + 1) - 1);
      showSheet(words.get("view") === "sheet");
      if (!sheetShown) stage.fit();
      if (!queue.length) saved("saved");
      agree();
    },
  };
}
