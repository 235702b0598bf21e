// The keys of every room, as the help lists them; what a room does at a key is in the room.

export const EVERYWHERE = [
  ["Everywhere", [["?", "these keys"], ["Ctrl Z", "undo"], ["Ctrl Shift Z", "redo"]]],
];

export const ANNOTATE = [
  ["Pictures", [
    ["↵", "looked at, on to the next"],
    ["← →", "previous, next (no box chosen)"],
    ["S", "contact sheet"],
    ["+ − 0", "zoom in, out, fit; Ctrl and the wheel, too"],
  ]],
  ["Boxes", [
    ["N", "new box in the middle"],
    ["Tab", "choose the next box"],
    ["← ↑ → ↓", "move the chosen box a pixel"],
    ["Shift ← ↑ → ↓", "move its right and bottom sides"],
    ["Del", "delete it"],
    ["Esc", "let go"],
    ["1 … 9", "choose the concept"],
    ["G", "the probe’s grid"],
  ]],
];

export const EXPLORE = [
  ["Samples", [["← →", "previous, next"]]],
  ["Units, in the list", [["↑ ↓", "the next one, and where it is active"], ["Space", "switch it"]]],
  ["Edit", [
    ["A", "what rule auto chose"],
    ["E", "everywhere"],
    ["P", "where the probe sees the concept"],
    ["B", "where I brush"],
    ["M", "the segmenter’s mask"],
    ["C", "random units, the control"],
  ]],
  ["Brush, on a picture", [["← ↑ → ↓", "move over the cells"], ["Space", "brush the cell"]]],
];

export const WALK = [["Walk and turn", [["← →", "a little back or on along the slider that was used last"]]]];
