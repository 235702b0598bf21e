// One sample with what lies over it: a mask, a unit's activation, brushed cells.

import { element, paint, shape } from "./dom.js";

const HEAT = [255, 60, 40];

/** A panel called `title`; `brush(cell, first)` is told of strokes, `key(event)` of key presses. */
export function makePanel(title, { brush, key }) {
  const canvas = element("canvas");
  const over = element("canvas");
  const svg = shape("svg", { preserveAspectRatio: "none", "aria-hidden": true });
  const named = { role: "img", "aria-label": title };
  const view = element("div", { className: "view", ...named }, canvas, over, svg);
  const side = element("span", { className: "quiet" });
  const heading = element("figcaption", {}, element("b", { textContent: title }), side);
  const node = element("figure", { className: "panel" }, heading, view);
  let grid = [1, 1];
  let stroke = null;

  function cell(event) {
    const bounds = view.getBoundingClientRect();
    const column = Math.floor(((event.clientX - bounds.left) / bounds.width) * grid[1]);
    const row = Math.floor(((event.clientY - bounds.top) / bounds.height) * grid[0]);
    const inside = column >= 0 && row >= 0 && column < grid[1] && row < grid[0];
    return inside ? row * grid[1] + column : null;
  }

  /** The cells on the way from one to another, for a quick hand skips some. */
  function line(from, to) {
    const [row, column] = [Math.floor(from / grid[1]), from % grid[1]];
    const [down, across] = [Math.floor(to / grid[1]) - row, (to % grid[1]) - column];
    const steps = Math.max(Math.abs(down), Math.abs(across));
    return Array.from({ length: steps }, (_, step) => {
      const share = (step + 1) / steps;
      return Math.round(row + down * share) * grid[1] + Math.round(column + across * share);
    });
  }

  view.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const at = cell(event);
    if (at === null || !brush(at, true, event)) return;
    event.preventDefault();
    view.focus({ preventScroll: true });
    stroke = at;
    view.setPointerCapture(event.pointerId);
  });
  view.addEventListener("pointermove", (event) => {
    if (stroke === null) return;
    const at = cell(event);
    if (at === null || at === stroke) return;
    for (const between of line(stroke, at)) brush(between, false, event);
    stroke = at;
  });
  for (const end of ["pointerup", "pointercancel"]) view.addEventListener(end, () => { stroke = null; });
  view.addEventListener("keydown", (event) => {
    if (key(event)) event.preventDefault();
  });

  /** Draw over the picture what `colour(value)` says of each value: red, green, blue, opacity. */
  function tint(values, rows, columns, colour) {
    over.width = columns;
    over.height = rows;
    const image = new ImageData(columns, rows);
    values.forEach((value, place) => image.data.set(colour(value), place * 4));
    over.getContext("2d").putImageData(image, 0, 0);
  }

  return {
    node,
    view,
    show(pixels, width, height) {
      paint(canvas, pixels, width, height);
      view.style.aspectRatio = `${width} / ${height}`;
    },
    caption(text) {
      side.textContent = text;
    },
    describe(text) {
      view.setAttribute("aria-label", text);
    },
    /** Labels in the colours that `colour(label)` gives; null leaves them clear. */
    mask(labels, colour, width, height) {
      const found = new Map([...new Set(labels)].map((label) => [label, colour(label)]));
      const clear = [0, 0, 0, 0];
      tint(labels, height, width, (label) => (found.get(label) ? [...found.get(label), 128] : clear));
    },
    heat(values) {
      tint(values, ...grid, (value) => [...HEAT, value * 0.8]);
    },
    clear() {
      over.width = over.width;
    },
    grid(rows, columns) {
      grid = [rows, columns];
      svg.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
    },
    /** Whether keys are for the brush: only then does Tab lead here. */
    brushing(on) {
      view.setAttribute("role", on ? "application" : "img");
      if (on) view.tabIndex = 0;
      else view.removeAttribute("tabindex");
    },
    brushed(cells, cursor) {
      const rect = (at, name) => shape("rect", {
        x: at % grid[1], y: Math.floor(at / grid[1]), width: 1, height: 1, class: name,
      });
      svg.replaceChildren(...[...cells].map(([at, kind]) => rect(at, `brushed ${kind}`)));
      if (cursor !== null) svg.append(rect(cursor, "cursor"));
    },
  };
}
