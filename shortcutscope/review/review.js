// The review grid: one picture per sample, accepted or rejected by click or by keyboard. A picture may have an
// overlay, the outline of a mask, whose opacity one slider sets for all.
const KEYS = { a: true, r: false };
const TALLEST = 240; // of a picture with an overlay, in pixels

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

// A dark line beneath the bright one, so that the outline shows on any image.
function overlaid(overlay) {
  const [height, width] = overlay.size;
  const drawn = vector("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const line of ["ss-halo", "ss-mask"]) drawn.append(vector("path", { class: line, d: overlay.path, "fill-rule": "evenodd" }));
  return drawn;
}

function pictured(item) {
  const image = element("img", { src: item.src, alt: "" });
  if (!item.overlay) return image;
  const [height, width] = item.overlay.size;
  const frame = element("div", { class: "ss-picture" });
  frame.style.aspectRatio = `${width} / ${height}`;
  frame.style.width = `min(100%, ${(TALLEST * width) / height}px)`;
  frame.append(image, overlaid(item.overlay));
  return frame;
}

function render({ model, el }) {
  const words = model.get("words");
  const layered = typeof model.get("opacity") === "number";
  const root = element("div", { class: "ss-review", "data-test": "review" });
  const heading = element("p", {}, `${words.question}  `);
  heading.append(element("span", { class: "ss-keys" }, words.keys));
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
  root.append(grid, button, status);
  el.replaceChildren(root);

  const items = model.get("items");
  const cells = items.map((item, index) => {
    const cell = element("div", { class: "ss-cell", role: "option", tabindex: index ? "-1" : "0", "data-id": item.id });
    if (item.wide) cell.classList.add("ss-wide");
    if (item.src) cell.append(pictured(item));
    cell.append(element("span", { class: "ss-caption" }, `${item.caption} (${item.score})`));
    cell.append(element("span", { class: "ss-state" }));
    cell.addEventListener("click", () => { focus(index); answer(index, next(value(item))); });
    cell.addEventListener("keydown", (event) => pressed(event, index));
    grid.append(cell);
    return cell;
  });

  // An answer given here outweighs the one that a sample came with; null takes that one back.
  function value(item) {
    const given = model.get("answers")[item.id];
    return (given === undefined ? item.mark : given) ?? undefined;
  }

  function next(now) {
    return now === undefined ? true : now ? false : undefined;
  }

  function answer(index, given) {
    const answers = { ...model.get("answers") };
    if (given === undefined) delete answers[items[index].id];
    else answers[items[index].id] = given;
    model.set("answers", answers);
    model.save_changes();
    draw();
  }

  function undo(index) {
    const { id, mark } = items[index];
    const untouched = model.get("answers")[id] === undefined;
    answer(index, model.get("takes_back") && untouched && mark !== null ? null : undefined);
  }

  function focus(index) {
    const target = Math.max(0, Math.min(cells.length - 1, index));
    cells.forEach((cell, k) => cell.setAttribute("tabindex", k === target ? "0" : "-1"));
    cells[target].focus();
  }

  function columns() {
    const top = cells[0].offsetTop;
    const wrapped = cells.findIndex((cell) => cell.offsetTop > top);
    return wrapped < 0 ? cells.length : wrapped;
  }

  function pressed(event, index) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns() };
    if (key in KEYS) { answer(index, KEYS[key]); focus(index + 1); }
    else if (key === "u" || key === "Backspace") undo(index);
    else if (key === "m" && layered) root.classList.toggle("ss-bare");
    else if (key === "Enter" || key === " ") answer(index, next(value(items[index])));
    else if (key === "Home") focus(0);
    else if (key === "End") focus(cells.length - 1);
    else if (key in steps) {
      const target = index + steps[key];
      if (target >= 0 && target < cells.length) focus(target);
    } else return;
    // The notebook has shortcuts of its own on these keys.
    event.preventDefault();
    event.stopPropagation();
  }

  function draw() {
    items.forEach((item, index) => {
      const state = value(item);
      cells[index].dataset.state = state === undefined ? "open" : state ? "accept" : "reject";
      cells[index].setAttribute("aria-selected", String(state === true));
      cells[index].querySelector(".ss-state").textContent = words[cells[index].dataset.state];
    });
    const given = Object.values(model.get("answers"));
    const [accepted, rejected] = [true, false].map((answered) => given.filter((one) => one === answered).length);
    status.textContent = `${accepted} ${words.accepted}, ${rejected} ${words.rejected}. ${model.get("message")}`;
  }

  function shade() {
    slider.value = String(model.get("opacity"));
    root.style.setProperty("--ss-opacity", slider.value);
  }

  slider.addEventListener("input", () => {
    root.classList.remove("ss-bare");
    model.set("opacity", Number(slider.value));
    model.save_changes();
    shade();
  });
  slider.addEventListener("keydown", (event) => event.stopPropagation());
  button.addEventListener("click", () => model.send({ type: "submit" }));
  const heard = { "change:answers": draw, "change:message": draw };
  if (layered) { heard["change:opacity"] = shade; shade(); }
  for (const [name, follow] of Object.entries(heard)) model.on(name, follow);
  draw();
  return () => { for (const [name, follow] of Object.entries(heard)) model.off(name, follow); };
}

export default { render };
