// The list of a layer's units: how much each speaks for the concept, and what it answers to.

import { element, text } from "./dom.js";

const SHARES = new Set(["effect"]); // told in percent

/** The list in `host`; `tick(unit, on)` is told of choices, `hover(unit)` of what is looked at. */
export function makeUnitList(host, { tick, hover }) {
  let rows = new Map();
  let order = [];
  let entry = null; // the unit that Tab leads to; arrows lead on from there
  let waiting = null; // an order that would move the list under the hand

  const touched = () => host.matches(":hover, :focus-within");
  const settle = () => {
    if (!waiting || touched()) return;
    const late = waiting;
    waiting = null;
    late();
  };
  host.addEventListener("mouseleave", () => setTimeout(settle));
  host.addEventListener("focusout", () => setTimeout(settle));

  host.addEventListener("keydown", (event) => {
    const at = order.indexOf(entry);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: order.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    rows.get(order[to])?.box.focus();
  });

  /** Let Tab lead to a unit, and to no other. */
  function lead(unit) {
    if (rows.has(entry)) rows.get(entry).box.tabIndex = -1;
    entry = unit;
    rows.get(unit).box.tabIndex = 0;
  }

  function top(source, [seed, index, at], [height, width]) {
    const spot = element("i");
    spot.style.left = `${((at % width) / width) * 100}%`;
    spot.style.top = `${(Math.floor(at / width) / height) * 100}%`;
    spot.style.width = `${100 / width}%`;
    spot.style.height = `${100 / height}%`;
    const image = element("img", { loading: "lazy", fetchPriority: "low", alt: "", className: "pixels" });
    image.src = source(seed, index);
    image.title = `seed ${seed}, index ${index}`;
    return element("span", { className: "top" }, image, spot);
  }

  function row(unit, study, source) {
    const box = element("input", { type: "checkbox", tabIndex: -1 });
    box.addEventListener("change", () => tick(unit, box.checked));
    const bar = element("i");
    const meter = element("span", { className: "meter" }, bar);
    const value = text("value quiet", "");
    const tops = text("tops", "");
    tops.append(...study.top[unit].map((one) => top(source, one, study.grid)));
    const score = element("span", { className: "score" }, meter, value);
    const label = element("label", { className: "unit" }, box, text("number", unit), score, tops);
    label.addEventListener("mouseenter", () => hover(unit));
    label.addEventListener("mouseleave", () => hover(null));
    label.addEventListener("focusin", () => {
      lead(unit);
      hover(unit);
    });
    label.addEventListener("focusout", () => hover(null));
    rows.set(unit, { item: element("li", {}, label), box, bar, meter, value });
  }

  /** Show the scores of that name, and the units in their order ("unit" is by number). */
  function sort({ scores }, by) {
    const name = by in scores ? by : "weight";
    const values = scores[name];
    const most = Math.max(...values.map(Math.abs), 1e-12);
    order = values.map((_, unit) => unit);
    if (by !== "unit") order.sort((a, b) => values[b] - values[a]);
    for (const [unit, { box, bar, meter, value }] of rows) {
      const shownValue = shown(name, values[unit]);
      box.setAttribute("aria-label", `Unit ${unit}, ${name} ${shownValue}`);
      bar.style.width = `${(Math.abs(values[unit]) / most) * 100}%`;
      meter.classList.toggle("against", values[unit] < 0);
      value.textContent = shownValue;
    }
    host.replaceChildren(...order.map((unit) => rows.get(unit).item));
    lead(order[0]);
    return name;
  }

  return {
    /** All units of a study, in the order of a score. */
    show(study, by, source) {
      rows = new Map();
      waiting = null;
      study.top.forEach((_, unit) => row(unit, study, source));
      return sort(study, by);
    },
    /** Another order of the same units; where it comes by itself it waits for the hand to leave. */
    sort(study, by, { byItself = false } = {}) {
      waiting = null;
      if (!byItself || !touched()) sort(study, by);
      else waiting = () => sort(study, by);
    },
    tick(chosen) {
      for (const [unit, { box }] of rows) box.checked = chosen.has(unit);
    },
    /** The first so many units of the list as it stands. */
    first: (count) => order.slice(0, count),
  };
}

function shown(name, value) {
  const told = SHARES.has(name) ? `${(100 * value).toFixed(1)}%` : value.toFixed(3);
  return told.replace("-", "−");
}
