// Small helpers that every room uses: elements, notices, pixels.

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties, or attributes where the name has a hyphen, and children. */
export function element(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** A piece of text of a class. */
export function text(className, textContent) {
  return element("span", { className, textContent });
}

/** So many boxes, in words. */
export const boxCount = (count) => `${count} ${count === 1 ? "box" : "boxes"}`;

/** Fill a select with pairs of a value and what is shown for it. */
export function options(select, pairs) {
  select.replaceChildren(
    ...pairs.map(([value, textContent]) => element("option", { value, textContent })),
  );
}

/** The same as `element` for SVG, where everything is an attribute. */
export function shape(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function filled(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

/** Say something that must not be missed; a good message goes by itself. */
export function notice(message, { good = false, id = "" } = {}) {
  if (id) dismiss(id);
  const sentence = message.charAt(0).toUpperCase() + message.slice(1);
  const close = element("button", { type: "button", textContent: "Close" });
  const node = element("div", { className: good ? "notice good" : "notice" }, sentence, close);
  node.dataset.id = id;
  close.addEventListener("click", () => node.remove());
  $("notices").append(node);
  while ($("notices").children.length > 3) $("notices").firstChild.remove();
  if (good) setTimeout(() => node.remove(), 6000);
}

export function dismiss(id) {
  for (const node of document.querySelectorAll(`.notice[data-id="${id}"]`)) node.remove();
}

/** What stands in the bar: whether everything is on the disk. */
export function saved(message, waiting = false) {
  $("saved").textContent = message;
  $("saved").classList.toggle("waiting", waiting);
}

/** Bytes out of base64. */
export function bytes(packed) {
  return Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
}

/** A sample that the server drew, its packed parts as bytes. */
export function opened({ pixels, labels, counts }) {
  return { pixels: bytes(pixels), labels: labels && bytes(labels), counts };
}

/** Draw a picture of bytes, three a pixel, at its own size; the style sheet enlarges it. */
export function paint(canvas, pixels, width, height) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let from = 0, to = 0; from < pixels.length; from += 3, to += 4) {
    image.data[to] = pixels[from];
    image.data[to + 1] = pixels[from + 1];
    image.data[to + 2] = pixels[from + 2];
    image.data[to + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Tell of a slider's values; those that follow the first until the hand lets go are joined to it. */
export function onSlide(input, changed) {
  let joined = false;
  input.addEventListener("input", (event) => {
    changed(Number(input.value), event, joined);
    joined = true;
  });
  input.addEventListener("change", () => { joined = false; });
}

/** Whether a key press belongs to the field that has the focus. */
export function typing(event) {
  const field = event.target;
  return field instanceof HTMLInputElement ? !["checkbox", "radio", "range"].includes(field.type)
    : field instanceof HTMLSelectElement;
}
