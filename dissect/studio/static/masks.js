// The segmenter's masks over a sample: of one class, or of all in colours with a legend.

import { $, element, options } from "./dom.js";

const ONE = [255, 214, 10];
const ALL = "all";

/** A colour for each class, neighbours in number far apart in hue. */
function colour(number) {
  const hue = (210 + number * 137.508) % 360;
  const light = number % 2 ? 0.62 : 0.48;
  const spread = 0.8 * Math.min(light, 1 - light);
  const channel = (shift) => {
    const at = (shift + hue / 30) % 12;
    return Math.round(255 * (light - spread * Math.max(-1, Math.min(at - 3, 9 - at, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

/** The choice of a mask; `changed()` is told of another one. */
export function makeMask(changed) {
  let classes = [];
  let offered = "";
  $("mask").addEventListener("change", changed);

  const chosen = () => $("mask").value;

  return {
    /** Offer the classes of a segmenter, the concept first; none without a segmenter. */
    offer(names, concept) {
      classes = names ?? [];
      const before = chosen() === offered && offered ? concept : chosen();
      offered = concept;
      const rest = classes.filter((name) => name !== concept);
      const first = classes.includes(concept) ? [concept] : [];
      const named = [...first, ...rest].map((name) => [name, name]);
      options($("mask"), [["", "none"], ...named, [ALL, "everything"]]);
      $("mask-field").hidden = !classes.length;
      this.choose(before);
    },
    choose(name) {
      $("mask").value = name === ALL || classes.includes(name) ? name : "";
    },
    chosen,
    /** Show the concept's mask, or none where one is shown. */
    toggle(concept) {
      this.choose(chosen() ? "" : concept);
      changed();
    },
    /** Draw over a panel what the segmenter saw there. */
    over(panel, labels, width, height) {
      const one = classes.indexOf(chosen());
      if (one >= 0) panel.mask(labels, (label) => (label === one ? ONE : null), width, height);
      else panel.mask(labels, colour, width, height);
    },
    /** Tell the colours of what is seen in the labels. */
    legend(labels) {
      const shown = chosen() === ALL && labels;
      $("legend").hidden = !shown;
      if (!shown) return;
      $("legend").replaceChildren(...[...new Set(labels)].sort((a, b) => a - b).map((label) => {
        const swatch = element("i", { className: "swatch" });
        swatch.style.background = `rgb(${colour(label)})`;
        return element("li", {}, swatch, classes[label]);
      }));
    },
  };
}
