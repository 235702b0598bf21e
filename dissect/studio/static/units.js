// The list of a layer's units: how much each speaks for the concept, and what it answers to.

import { element, text } from "./dom.js";

/** The list in `host`; `tick(unit, on)` is told of choices, `hover(unit)` of what is looked at. */
export function makeUnitList(host, { tick, hover }) {
  let rows = new Map();

  function top(source, [seed, index, at], [height, width]) {
    const spot = element("i");
    spot.style.left = `${((at % width) / width) * 100}%`;
    spot.style.top = `${(Math.floor(at / width) / height) * 100}%`;
    spot.style.width = `${100 / width}%`;
    spot.style.height = `${100 / height}%`;
    const image = element("img", { loading: "lazy", alt: "", className: "pixels", src: source(seed, index) });
    return element("span", { className: "top" }, image, spot);
  }

  function row(unit, scores, study, source) {
    const value = scores.values[unit];
    const name = `Unit ${unit}, ${scores.name} ${value.toFixed(3)}`;
    const box = element("input", { type: "checkbox", "aria-label": name });
    box.addEventListener("change", () => tick(unit, box.checked));
    const bar = element("i");
    bar.style.width = `${(Math.abs(value) / scores.most) * 100}%`;
    const meter = text(value < 0 ? "meter against" : "meter", "");
    meter.title = value.toFixed(4);
    meter.append(bar);
    const tops = text("tops", "");
    tops.append(...study.top[unit].map((one) => top(source, one, study.grid)));
    const label = element("label", { className: "unit" }, box, text("number", unit), meter, tops);
    label.addEventListener("mouseenter", () => hover(unit));
    label.addEventListener("mouseleave", () => hover(null));
    label.addEventListener("focusin", () => hover(unit));
    label.addEventListener("focusout", () => hover(null));
    rows.set(unit, box);
    return element("li", {}, label);
  }

  return {
    /** All units of a study, by the score of that name ("unit" is by number). */
    show(study, by, source) {
      rows = new Map();
      const name = by in study.scores ? by : "weight";
      const values = study.scores[name];
      const scores = { name, values, most: Math.max(...values.map(Math.abs), 1e-12) };
      const order = values.map((_, unit) => unit);
      if (by in study.scores) order.sort((a, b) => values[b] - values[a]);
      host.replaceChildren(...order.map((unit) => row(unit, scores, study, source)));
      return order;
    },
    tick(chosen) {
      for (const [unit, box] of rows) box.checked = chosen.has(unit);
    },
  };
}
