// The review grid: one picture per hit, accepted or rejected by click or by keyboard.
const KEYS = { a: true, r: false };
const WORDS = new Map([[true, "carrier"], [false, "free of it"], [undefined, "not marked"]]);

function element(tag, attributes, text) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function render({ model, el }) {
  const root = element("div", { class: "ss-review", "data-test": "review" });
  const heading = element("p", {}, `Does it carry "${model.get("title")}"?  `);
  heading.append(element("span", { class: "ss-keys" }, "Click to change; arrows move, a carrier, r free of it, u undo"));
  const grid = element("div", { class: "ss-grid", role: "listbox", "aria-label": "hits" });
  const status = element("p", { role: "status", "data-test": "status" });
  const button = element("button", { type: "button", "data-test": "submit" }, "Use these marks");
  root.append(heading, grid, button, status);
  el.replaceChildren(root);

  const items = model.get("items");
  const cells = items.map((item, index) => {
    const cell = element("div", { class: "ss-cell", role: "option", tabindex: index ? "-1" : "0", "data-id": item.id });
    if (item.src) cell.append(element("img", { src: item.src, alt: "" }));
    cell.append(element("span", { class: "ss-caption" }, `${item.caption} (${item.score})`));
    cell.append(element("span", { class: "ss-state" }));
    cell.addEventListener("click", () => { focus(index); answer(index, next(value(item))); });
    cell.addEventListener("keydown", (event) => pressed(event, index));
    grid.append(cell);
    return cell;
  });

  // An answer given here outweighs the mark that a sample came with.
  function value(item) {
    const given = model.get("answers")[item.id];
    return given !== undefined ? given : item.mark === null ? undefined : item.mark;
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
    else if (key === "u" || key === "Backspace") answer(index, undefined);
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
      cells[index].querySelector(".ss-state").textContent = WORDS.get(state);
    });
    const given = Object.values(model.get("answers"));
    const accepted = given.filter(Boolean).length;
    status.textContent = `${accepted} carriers, ${given.length - accepted} free of it. ${model.get("message")}`;
  }

  button.addEventListener("click", () => model.send({ type: "submit" }));
  model.on("change:answers", draw);
  model.on("change:message", draw);
  draw();
  return () => { model.off("change:answers", draw); model.off("change:message", draw); };
}

export default { render };
