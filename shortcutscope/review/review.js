// The review grid: one picture per sample, accepted or rejected by click or by keyboard, a page at a time, each
// to be seen larger. A picture may have an overlay, the outline of a mask, whose opacity one slider sets for
// all; or it is an image's own file, on which boxes and clicks can be drawn, kept in pixels of that file.
const KEYS = { a: true, r: false };
const TALLEST = 240; // of a picture with an overlay, in pixels
const PAGE = 60; // pictures at a time
const DRAGGED = 4; // pixels of the screen from which a press is no click
const NUDGE = 0.02; // of the image's side, by which a key moves a box

function element(tag, attributes, text) {
  return filled(document.createElement(tag), attributes, text);
}

function vector(tag, attributes) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes);
}

function filled(made, attributes, text) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function canvas([height, width]) {
  return vector("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
}

// A dark line beneath the bright one, so that it shows on any image.
function outlined(drawn, path, kind) {
  for (const line of ["ss-halo", kind]) drawn.append(vector("path", { class: line, d: path, "fill-rule": "evenodd" }));
}

function traced([x0, y0, x1, y1]) {
  return x0 === x1 && y0 === y1 ? `M${x0},${y0}h0` : `M${x0},${y0}H${x1}V${y1}H${x0}Z`;
}

// The picture in the aspect of its own file, with what is drawn on it.
function pictured(item, tallest = TALLEST) {
  const image = element("img", { src: item.src, alt: "", draggable: "false" });
  const size = item.overlay?.size ?? item.file?.size;
  if (!size) return image;
  const frame = element("div", { class: "ss-picture" });
  frame.style.aspectRatio = `${size[1]} / ${size[0]}`;
  frame.style.width = `min(100%, ${(tallest * size[1]) / size[0]}px)`;
  const drawn = canvas(size);
  if (item.overlay) outlined(drawn, item.overlay.path, "ss-mask");
  else drawn.classList.add("ss-boxes");
  frame.append(image, drawn);
  return frame;
}

function redrawn(frame, boxes, place, pending) {
  const drawn = frame.querySelector(".ss-boxes");
  if (!drawn) return;
  drawn.replaceChildren();
  if (place) outlined(drawn, traced(place), "ss-proposed");
  for (const box of boxes) outlined(drawn, traced(box), "ss-box");
  if (pending) outlined(drawn, traced(pending), "ss-pending");
}

// What a press, a drag and a release on a picture mean in pixels of its file.
function drawable(frame, [height, width], { box, click, shown }) {
  let start = null;
  const at = (event) => {
    const { left, top, width: wide, height: high } = frame.getBoundingClientRect();
    const inside = (share) => Math.max(0, Math.min(1, share));
    const x = inside((event.clientX - left) / wide) * width;
    const y = inside((event.clientY - top) / high) * height;
    return [Math.round(x * 10) / 10, Math.round(y * 10) / 10];
  };
  const dragged = (event) => Math.hypot(event.clientX - start.x, event.clientY - start.y) >= DRAGGED;
  const spanned = ([x, y], [u, v]) => [Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)];
  frame.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    start = { x: event.clientX, y: event.clientY, at: at(event) };
    frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", (event) => {
    if (start && dragged(event)) shown(spanned(start.at, at(event)));
  });
  frame.addEventListener("pointerup", (event) => {
    if (!start) return;
    const [from, to, far] = [start.at, at(event), dragged(event)];
    start = null;
    const drawn = spanned(from, to);
    if (far && drawn[2] > drawn[0] && drawn[3] > drawn[1]) box(drawn);
    else if (far) shown(null);
    else click(to);
  });
  frame.addEventListener("pointercancel", () => { start = null; shown(null); });
}

function render({ model, el }) {
  const words = model.get("words");
  const layered = typeof model.get("opacity") === "number";
  const items = model.get("items");
  const root = element("div", { class: "ss-review", "data-test": "review" });
  const heading = element("p", {}, `${words.question}  `);
  heading.append(element("span", { class: "ss-keys" }, words.keys));
  const pager = element("p", { class: "ss-pager" });
  const [back, on] = [["Previous", "previous"], ["Next", "next"]].map(([text, test]) =>
    element("button", { type: "button", "data-test": test }, text));
  const where = element("span", { "data-test": "page" });
  pager.append(back, where, on);
  const desk = element("div", { class: "ss-desk", "data-test": "desk", tabindex: "0", role: "group", hidden: "" });
  const grid = element("div", { class: "ss-grid", role: "listbox", "aria-label": words.samples });
  const status = element("p", { role: "status", "data-test": "status" });
  const button = element("button", { type: "button", "data-test": "submit" }, words.button);
  const slider = element("input", { type: "range", min: "0", max: "1", step: "0.05", "data-test": "opacity" });
  root.append(heading);
  if (layered) {
    const label = element("label", {}, "Opacity of the masks ");
    label.append(slider);
    root.append(label);
  }
  if (items.length > PAGE) root.append(pager);
  root.append(desk, grid, button, status);
  el.replaceChildren(root);

  const large = {}; // pictures in the size of the file, as the kernel sends them
  let current = 0;
  let pending = null; // a box that the keyboard moves

  const cells = items.map((item, index) => {
    const cell = element("div", { class: "ss-cell", role: "option", tabindex: index ? "-1" : "0", "data-id": item.id });
    if (item.wide) cell.classList.add("ss-wide");
    if (item.src) {
      const frame = pictured(item);
      cell.append(frame);
      if (item.file) {
        drawable(frame, item.file.size, {
          box: (drawn) => { focus(index); added(index, drawn); },
          click: () => cycled(index),
          shown: (drawn) => redrawn(frame, boxes(item), item.file.place, drawn),
        });
        frame.addEventListener("click", (event) => event.stopPropagation()); // what was drawn is no answer
      }
    }
    const enlarge = element("button", { type: "button", class: "ss-enlarge", tabindex: "-1", title: "Larger (z)", "aria-label": `Larger: ${item.caption}` }, "\u2922");
    enlarge.addEventListener("click", (event) => { event.stopPropagation(); opened(index); });
    if (item.src) cell.append(enlarge);
    cell.append(element("span", { class: "ss-caption" }, `${item.caption} (${item.score})`));
    cell.append(element("span", { class: "ss-state" }));
    cell.addEventListener("click", () => cycled(index));
    cell.addEventListener("keydown", (event) => pressed(event, index));
    grid.append(cell);
    return cell;
  });

  // An answer given here outweighs the one that a sample came with; null takes that one back.
  function value(item) {
    const given = model.get("answers")[item.id];
    return (given === undefined ? item.mark : given) ?? undefined;
  }

  function boxes(item) {
    return model.get("boxes")[item.id] ?? item.file?.boxes ?? [];
  }

  function next(now) {
    return now === undefined ? true : now ? false : undefined;
  }

  function cycled(index) {
    focus(index);
    answer(index, next(value(items[index])));
  }

  function put(name, id, given) {
    const all = { ...model.get(name) };
    if (given === undefined) delete all[id];
    else all[id] = given;
    model.set(name, all);
  }

  function answer(index, given) {
    const item = items[index];
    put("answers", item.id, given);
    if (given === false && boxes(item).length) put("boxes", item.id, []);
    model.save_changes();
    draw();
  }

  function placed(index, drawn) {
    const item = items[index];
    put("boxes", item.id, drawn);
    if (drawn.length && value(item) !== true) put("answers", item.id, true);
    model.save_changes();
    draw();
  }

  function added(index, box) {
    placed(index, [...boxes(items[index]), box]);
  }

  function undo(index) {
    const { id, mark } = items[index];
    const untouched = model.get("answers")[id] === undefined && model.get("boxes")[id] === undefined;
    put("boxes", id, undefined);
    answer(index, model.get("takes_back") && untouched && mark !== null ? null : undefined);
  }

  // Pages, and where the keyboard is

  function turned(target) {
    const page = Math.floor(target / PAGE);
    cells.forEach((cell, k) => { cell.hidden = Math.floor(k / PAGE) !== page; });
    const last = Math.min(items.length, (page + 1) * PAGE);
    where.textContent = `${page * PAGE + 1} to ${last} of ${items.length}`;
    back.disabled = page === 0;
    on.disabled = last === items.length;
  }

  function focus(index) {
    current = Math.max(0, Math.min(cells.length - 1, index));
    turned(current);
    cells.forEach((cell, k) => cell.setAttribute("tabindex", k === current ? "0" : "-1"));
    if (desk.hidden) cells[current].focus();
    else opened(current);
  }

  function columns() {
    const seen = cells.filter((cell) => !cell.hidden);
    const wrapped = seen.findIndex((cell) => cell.offsetTop > seen[0].offsetTop);
    return wrapped < 0 ? seen.length : wrapped;
  }

  function plain(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return null;
    return event.key.length === 1 ? event.key.toLowerCase() : event.key;
  }

  // The notebook has shortcuts of its own on these keys.
  function handled(event) {
    event.preventDefault();
    event.stopPropagation();
  }

  // What means the same in the grid and at the larger picture; false where the key means nothing.
  function answered(key, index) {
    if (key in KEYS) { answer(index, KEYS[key]); focus(index + 1); }
    else if (key === "u") undo(index);
    else if (key === "m" && layered) root.classList.toggle("ss-bare");
    else if (key === "PageDown") focus(index + PAGE);
    else if (key === "PageUp") focus(index - PAGE);
    else if (key === "Home") focus(0);
    else if (key === "End") focus(cells.length - 1);
    else return false;
    return true;
  }

  function pressed(event, index) {
    const key = plain(event);
    if (key === null) return;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns() };
    if (key === "Backspace") undo(index);
    else if (key === "z") opened(index);
    else if (key === "Enter" || key === " ") answer(index, next(value(items[index])));
    else if (key in steps) {
      const target = index + steps[key];
      if (target >= 0 && target < cells.length) focus(target);
    } else if (!answered(key, index)) return;
    handled(event);
  }

  // One picture larger: the desk at which boxes are drawn

  function opened(index) {
    const item = items[index];
    current = index;
    pending = null;
    turned(current);
    if (item.file && !large[item.id]) model.send({ type: "picture", id: item.id });
    const frame = pictured({ ...item, src: large[item.id] ?? item.src }, 560);
    const close = element("button", { type: "button", "data-test": "close" }, "Close");
    close.addEventListener("click", closed);
    const line = element("p", {}, `${item.caption} (${item.score}) `);
    line.append(element("span", { class: "ss-state" }), close);
    desk.replaceChildren(line, frame, element("p", { class: "ss-keys" }, item.file ? words.drawing : words.enlarged));
    desk.setAttribute("aria-label", `Larger: ${item.caption}`);
    if (item.file) {
      drawable(frame, item.file.size, {
        box: (drawn) => added(current, drawn),
        click: ([x, y]) => added(current, [x, y, x, y]),
        shown: (drawn) => redrawn(frame, boxes(item), item.file.place, drawn),
      });
    }
    desk.hidden = false;
    desk.focus({ preventScroll: true });
    draw();
  }

  function closed() {
    desk.hidden = true;
    desk.replaceChildren();
    focus(current);
  }

  // A box by keyboard: in the middle at first, moved by arrows, by Shift and arrows made larger and smaller.
  function moved(key, larger) {
    const [height, width] = items[current].file.size;
    const across = { ArrowRight: 1, ArrowLeft: -1 }[key] ?? 0;
    const down = { ArrowDown: 1, ArrowUp: -1 }[key] ?? 0;
    const [x0, y0, x1, y1] = pending;
    const [dx, dy] = [across * NUDGE * width, down * NUDGE * height];
    const box = larger ? [x0, y0, x1 + dx, y1 + dy] : [x0 + dx, y0 + dy, x1 + dx, y1 + dy];
    const fits = box[0] >= 0 && box[1] >= 0 && box[2] <= width && box[3] <= height && box[2] > box[0] && box[3] > box[1];
    if (fits) pending = box;
  }

  function pressedAtDesk(event) {
    const key = plain(event);
    if (key === null || event.target.tagName === "BUTTON") return;
    const item = items[current];
    if (pending) {
      if (key.startsWith("Arrow")) moved(key, event.shiftKey);
      else if (key === "Enter") { const box = pending.map((edge) => Math.round(edge * 10) / 10); pending = null; added(current, box); }
      else if (key === "Escape") pending = null;
      else return;
      draw();
    } else if (key === "Escape" || key === "z") closed();
    else if (key === "ArrowRight") focus(current + 1);
    else if (key === "ArrowLeft") focus(current - 1);
    else if (item.file && key === "b") {
      const [height, width] = item.file.size;
      pending = [0.45 * width, 0.45 * height, 0.55 * width, 0.55 * height];
      draw();
    } else if (item.file?.place && key === "p") added(current, item.file.place);
    else if (item.file && (key === "Delete" || key === "Backspace")) placed(current, boxes(item).slice(0, -1));
    else if (!answered(key, current)) return;
    handled(event);
  }

  function draw() {
    items.forEach((item, index) => {
      const state = value(item);
      const word = state === undefined ? "open" : state ? "accept" : "reject";
      const shown = index === current && !desk.hidden ? [cells[index], desk] : [cells[index]];
      cells[index].setAttribute("aria-selected", String(state === true));
      for (const place of shown) {
        place.dataset.state = word;
        place.querySelector(".ss-state").textContent = words[word];
        if (item.file) redrawn(place, boxes(item), item.file.place, place === desk ? pending : null);
      }
    });
    const given = Object.values(model.get("answers"));
    const [accepted, rejected] = [true, false].map((answered) => given.filter((one) => one === answered).length);
    const drawn = Object.values(model.get("boxes")).reduce((sum, several) => sum + several.length, 0);
    const boxed = drawn ? `, ${drawn} box${drawn === 1 ? "" : "es"}` : "";
    status.textContent = `${accepted} ${words.accepted}, ${rejected} ${words.rejected}${boxed}. ${model.get("message")}`;
  }

  function shade() {
    slider.value = String(model.get("opacity"));
    root.style.setProperty("--ss-opacity", slider.value);
  }

  function received(content) {
    if (content?.type !== "picture") return;
    large[content.id] = content.src;
    if (!desk.hidden && items[current].id === content.id) desk.querySelector("img").src = content.src;
  }

  slider.addEventListener("input", () => {
    root.classList.remove("ss-bare");
    model.set("opacity", Number(slider.value));
    model.save_changes();
    shade();
  });
  slider.addEventListener("keydown", (event) => event.stopPropagation());
  desk.addEventListener("keydown", pressedAtDesk);
  back.addEventListener("click", () => focus(Math.floor(current / PAGE - 1) * PAGE));
  on.addEventListener("click", () => focus(Math.floor(current / PAGE + 1) * PAGE));
  button.addEventListener("click", () => model.send({ type: "submit" }));
  const heard = { "change:answers": draw, "change:boxes": draw, "change:message": draw, "msg:custom": received };
  if (layered) { heard["change:opacity"] = shade; shade(); }
  for (const [name, follow] of Object.entries(heard)) model.on(name, follow);
  turned(0);
  draw();
  return () => { for (const [name, follow] of Object.entries(heard)) model.off(name, follow); };
}

export default { render };
