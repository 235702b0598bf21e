// Small helpers that every room uses: elements, notices, pixels.

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties, or attributes where the name has a hyphen, and children. */
export function element(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** The same for SVG, where everything is an attribute. */
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
export function notice(text, { good = false, id = "" } = {}) {
  if (id) dismiss(id);
  const sentence = text.charAt(0).toUpperCase() + text.slice(1);
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
export function saved(text, waiting = false) {
  $("saved").textContent = text;
  $("saved").classList.toggle("waiting", waiting);
}

/** Bytes out of base64. */
export function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
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

/** Whether a key press belongs to the field that has the focus. */
export function typing(event) {
  const field = event.target;
  return field instanceof HTMLInputElement ? !["checkbox", "radio", "range"].includes(field.type)
    : field instanceof HTMLSelectElement;
}
