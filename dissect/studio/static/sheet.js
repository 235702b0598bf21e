// The contact sheet: every picture small, with its boxes.

import { boxCount, element, shape } from "./dom.js";

export function makeSheet(host, count, size, source, open) {
  let thumbs = null;

  function make() {
    thumbs = Array.from({ length: count }, (_, place) => {
      const shown = { alt: "", loading: "lazy", className: "pixels", ...size };
      const image = element("img", { ...shown, src: source(place) });
      const svg = shape("svg", { viewBox: `0 0 ${size.width} ${size.height}`, "aria-hidden": true });
      const tag = element("span", { className: "tag" });
      const button = element("button", { type: "button", className: "thumb" }, image, svg, tag);
      button.addEventListener("click", () => open(place));
      button.addEventListener("keydown", (event) => move(event, place));
      return { button, svg, tag };
    });
    host.replaceChildren(...thumbs.map(({ button }) => button));
  }

  function move(event, place) {
    const columns = getComputedStyle(host).gridTemplateColumns.split(" ").length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (!step) return;
    event.preventDefault();
    thumbs[place + step]?.button.focus();
  }

  return {
    show(boxes, here, hue) {
      if (!thumbs) make();
      thumbs.forEach(({ button, svg, tag }, place) => {
        const on = boxes[place];
        button.className = `thumb hue${hue}${on ? "" : " todo"}${place === here ? " here" : ""}`;
        const state = on ? boxCount(on.length) : "not looked at";
        button.tabIndex = place === here ? 0 : -1; // arrows lead to the others
        button.setAttribute("aria-label", `Picture ${place + 1}, ${state}`);
        tag.textContent = on ? `${place + 1} ✓` : place + 1;
        svg.replaceChildren(...(on ?? []).flatMap(([x, y, width, height]) => {
          const box = { x, y, width, height, "vector-effect": "non-scaling-stroke" };
          return ["edge", "box"].map((name) => shape("rect", { ...box, class: name }));
        }));
      });
    },
    focus(place) {
      thumbs?.[place]?.button.focus();
    },
  };
}
