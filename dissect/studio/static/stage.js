// One picture, large and crisp, with boxes that are drawn, moved and resized by hand or by keys.

import { element, shape } from "./dom.js";

const SCALES = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48];
const LEAST = 2; // pixels; a smaller box is a slip of the hand
const CORNERS = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** A box that lies inside the picture, of whole pixels. */
function tidy([x, y, width, height], size) {
  const w = clamp(Math.round(width), 1, size.width);
  const h = clamp(Math.round(height), 1, size.height);
  return [clamp(Math.round(x), 0, size.width - w), clamp(Math.round(y), 0, size.height - h), w, h];
}

/** A box with one side or corner elsewhere; sides may pass each other. */
function resized([x, y, width, height], corner, point, size) {
  let [left, top, right, bottom] = [x, y, x + width, y + height];
  const px = clamp(Math.round(point.x), 0, size.width);
  const py = clamp(Math.round(point.y), 0, size.height);
  if (corner.includes("w")) left = px;
  if (corner.includes("e")) right = px;
  if (corner.includes("n")) top = py;
  if (corner.includes("s")) bottom = py;
  return [Math.min(left, right), Math.min(top, bottom), Math.abs(right - left), Math.abs(bottom - top)];
}

/**
 * The stage in `host`. `size` is the picture's, `commit(boxes, chosen)` is told of every change,
 * `choose(number)` of every choice.
 */
export function makeStage(host, size, { commit, choose }) {
  const image = element("img", { alt: "", draggable: false, className: "pixels" });
  const svg = shape("svg", { viewBox: `0 0 ${size.width} ${size.height}`, role: "group" });
  const cells = shape("g");
  const others = shape("g");
  const own = shape("g");
  svg.append(cells, others, own);
  const canvas = element("div", { className: "canvas" }, image, svg);
  host.append(canvas);

  let boxes = [];
  let chosen = -1;
  let scale = 1;
  let fitted = true;
  let concept = "box";
  let drag = null;

  function fit() {
    const room = Math.min((host.clientWidth - 24) / size.width, (host.clientHeight - 24) / size.height);
    const whole = SCALES.filter((one) => one <= room).at(-1) ?? room;
    // Whole multiples keep pixels square; a little more room is not worth uneven ones.
    show(room > 0 ? whole : 1);
  }

  function show(wanted) {
    scale = wanted;
    canvas.style.width = `${size.width * scale}px`;
    canvas.style.height = `${size.height * scale}px`;
    draw();
  }

  function zoom(step, about = null) {
    const from = scale;
    const place = SCALES.findLastIndex((one) => one <= scale);
    fitted = false;
    const rect = canvas.getBoundingClientRect();
    show(SCALES[clamp(place + step, 0, SCALES.length - 1)]);
    if (!about) return;
    // What was under the pointer stays there.
    host.scrollLeft += ((about.clientX - rect.left) / from) * (scale - from);
    host.scrollTop += ((about.clientY - rect.top) / from) * (scale - from);
  }

  function rect(box, attributes) {
    const [x, y, width, height] = box;
    return shape("rect", { x, y, width, height, ...attributes });
  }

  function draw() {
    const focused = own.contains(document.activeElement);
    const parts = [];
    boxes.forEach((box, number) => {
      parts.push(rect(box, { class: "edge" }));
      parts.push(rect(box, {
        class: number === chosen ? "box chosen" : "box",
        "data-number": number,
        tabindex: 0,
        role: "button",
        "aria-pressed": number === chosen,
        "aria-label": `${concept} ${number + 1} of ${boxes.length}: ${boxText(box)}`,
      }));
    });
    if (chosen >= 0 && boxes[chosen]) parts.push(...handles(boxes[chosen]));
    own.replaceChildren(...parts);
    if (focused && chosen >= 0) own.querySelector(".chosen")?.focus({ preventScroll: true });
  }

  function handles([x, y, width, height]) {
    const side = 9 / scale;
    return CORNERS.map((corner) => {
      const cx = x + (corner.includes("w") ? 0 : corner.includes("e") ? width : width / 2);
      const cy = y + (corner.includes("n") ? 0 : corner.includes("s") ? height : height / 2);
      const square = [cx - side / 2, cy - side / 2, side, side];
      const node = rect(square, { class: "handle", "data-corner": corner });
      node.style.cursor = `${corner}-resize`;
      return node;
    });
  }

  function point(event) {
    const bounds = svg.getBoundingClientRect();
    return {
      x: ((event.clientX - bounds.left) / bounds.width) * size.width,
      y: ((event.clientY - bounds.top) / bounds.height) * size.height,
    };
  }

  function pick(number, focus = false) {
    chosen = number;
    draw();
    if (focus) own.querySelector(".chosen")?.focus({ preventScroll: true });
    choose(number);
  }

  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || drag) return;
    event.preventDefault();
    const at = point(event);
    const { number, corner } = event.target.dataset;
    const before = boxes;
    if (corner) drag = { how: corner, number: chosen, box: boxes[chosen], before };
    else if (number) drag = { how: "move", number: Number(number), box: boxes[Number(number)], before, at };
    else drag = { how: "new", number: boxes.length, at, before };
    if (drag.how === "move") pick(drag.number, true);
    svg.setPointerCapture(event.pointerId);
  });

  svg.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const at = point(event);
    let box;
    if (drag.how === "move") {
      const [x, y, width, height] = drag.box;
      box = tidy([x + at.x - drag.at.x, y + at.y - drag.at.y, width, height], size);
    } else if (drag.how === "new") {
      const left = clamp(Math.round(drag.at.x), 0, size.width);
      const top = clamp(Math.round(drag.at.y), 0, size.height);
      box = resized([left, top, 0, 0], "se", at, size);
    } else box = resized(drag.box, drag.how, at, size);
    drag.now = box;
    boxes = drag.before.toSpliced(drag.number, 1, box);
    chosen = drag.number;
    draw();
  });

  function release(keep) {
    const { before, now, number } = drag;
    drag = null;
    boxes = before;
    const slip = !now || now[2] < LEAST || now[3] < LEAST;
    if (keep && !slip && String(now) !== String(before[number])) {
      boxes = before.toSpliced(number, 1, now);
      pick(number, true);
      commit(boxes);
    } else pick(number < before.length ? number : -1, number < before.length);
  }

  svg.addEventListener("pointerup", () => drag && release(true));
  svg.addEventListener("pointercancel", () => drag && release(false));
  // Listened to by the host: an SVG that listens to focus would be a stop of the Tab key itself.
  host.addEventListener("focusin", (event) => {
    const number = event.target.dataset?.number;
    if (number !== undefined && Number(number) !== chosen && !drag) pick(Number(number), true);
  });
  host.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1 : -1, event);
  }, { passive: false });
  new ResizeObserver(() => fitted && fit()).observe(host);

  function change(box) {
    if (String(box) === String(boxes[chosen])) return;
    boxes = boxes.toSpliced(chosen, 1, box);
    pick(chosen, true);
    commit(boxes);
  }

  return {
    /** Show a picture with its boxes, those of other concepts, and their name for a reader. */
    show({ src, alt, mine, rest, name, hue }) {
      if (drag) drag = null;
      if (image.getAttribute("src") !== src) image.src = src;
      image.alt = alt;
      svg.setAttribute("aria-label", `Boxes on ${alt}`);
      svg.setAttribute("class", `hue${hue}`);
      concept = name;
      boxes = mine;
      if (chosen >= boxes.length) chosen = -1;
      others.replaceChildren(...rest.flatMap(({ boxes: theirs, hue: number }) =>
        theirs.map((box) => rect(box, { class: `other hue${number}` }))));
      draw();
    },
    /** The probe's cells and how much of each is covered; null shows none. */
    cover(coverage) {
      cells.replaceChildren(...(coverage ?? []).flatMap((row, y) => row.map((share, x) => {
        const width = size.width / row.length;
        const height = size.height / coverage.length;
        const kind = share >= 0.5 ? "cell inside" : share > 0 ? "cell touched" : "cell";
        const node = rect([x * width, y * height, width, height], { class: kind });
        if (share < 0.5) node.style.fillOpacity = share > 0 ? 0.45 : 0;
        else node.style.fillOpacity = 0.4;
        return node;
      })));
    },
    get chosen() { return chosen; },
    pick,
    fit() { fitted = true; fit(); },
    zoom,
    add() {
      const side = Math.max(LEAST, Math.round(Math.min(size.width, size.height) / 5));
      const box = tidy([(size.width - side) / 2, (size.height - side) / 2, side, side], size);
      boxes = [...boxes, box];
      pick(boxes.length - 1, true);
      commit(boxes);
    },
    remove() {
      if (chosen < 0) return false;
      boxes = boxes.toSpliced(chosen, 1);
      pick(-1);
      commit(boxes);
      return true;
    },
    /** Move the chosen box by pixels, or its right and bottom sides. */
    nudge(dx, dy, resize) {
      if (chosen < 0) return false;
      const [x, y, width, height] = boxes[chosen];
      if (resize) {
        const w = clamp(width + dx, LEAST, size.width - x);
        change([x, y, w, clamp(height + dy, LEAST, size.height - y)]);
      } else change(tidy([x + dx, y + dy, width, height], size));
      return true;
    },
    /** Let go of what is being drawn, or of the chosen box. */
    escape() {
      if (drag) release(false);
      else pick(-1);
    },
  };
}

/** A box in words. */
export function boxText([x, y, width, height]) {
  const number = (value) => String(Math.round(value * 10) / 10);
  return `${number(width)} × ${number(height)} at ${number(x)}, ${number(y)}`;
}
