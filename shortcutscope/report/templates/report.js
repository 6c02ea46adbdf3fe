(() => {
  "use strict";
  // Without this script every part of the report is shown, one below the other.
  const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

  // A report may hold another one, which sets up its own parts.
  const own = (root, selector) => [...root.querySelectorAll(selector)].filter((e) => e.closest(".ss-report") === root);

  const setUpTabs = (root, serial) => {
    const [list] = own(root, "[data-ss-tabs]");
    const panels = own(root, "[data-ss-panel]");
    list.setAttribute("role", "tablist");
    const tabs = panels.map((panel) => {
      const name = panel.dataset.ssPanel;
      const tab = make("button", { type: "button", className: "ss-tab", textContent: panel.dataset.ssTitle });
      tab.id = `ss-tab-${serial}-${name}`;
      panel.id = `ss-panel-${serial}-${name}`;
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", panel.id);
      tab.dataset.test = `tab-${name}`;
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tab.id);
      panel.tabIndex = 0;
      list.append(tab);
      return tab;
    });
    const show = (index, focus) => {
      tabs.forEach((tab, i) => {
        tab.setAttribute("aria-selected", String(i === index));
        tab.tabIndex = i === index ? 0 : -1;
        panels[i].hidden = i !== index;
      });
      if (focus) tabs[index].focus();
    };
    tabs.forEach((tab, i) => tab.addEventListener("click", () => show(i, false)));
    list.addEventListener("keydown", (event) => {
      const current = tabs.indexOf(event.target);
      const last = tabs.length - 1;
      const goal = {
        ArrowRight: current === last ? 0 : current + 1,
        ArrowLeft: current === 0 ? last : current - 1,
        Home: 0,
        End: last,
      }[event.key];
      if (current < 0 || goal === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      show(goal, true);
    });
    list.hidden = false;
    show(0, false);
    return (name) => show(panels.findIndex((panel) => panel.dataset.ssPanel === name), false);
  };

  const setUpCards = (root, showPanel) => {
    for (const link of root.querySelectorAll("[data-ss-open]")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        showPanel("findings");
        const finding = root.querySelector(`[data-ss-finding="${link.dataset.ssOpen}"]`);
        for (let part = finding; part; part = part.parentElement.closest("details")) part.open = true;
        finding.scrollIntoView({ block: "start" });
        finding.querySelector("summary").focus({ preventScroll: true });
      });
    }
  };

  // A click takes a command to the clipboard, where the browser allows it; it is selected in any case.
  const setUpCopying = (root) => {
    for (const code of root.querySelectorAll("[data-ss-copy]")) {
      code.title = "Click to copy";
      code.addEventListener("click", () => navigator.clipboard?.writeText(code.textContent).catch(() => {}));
    }
  };

  const setUpSorting = (table) => {
    const headers = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    headers.forEach((header, column) => {
      const button = make("button", { type: "button", className: "ss-sort", textContent: header.textContent });
      button.dataset.test = `sort-${column}`;
      header.replaceChildren(button);
      button.addEventListener("click", () => {
        const ascending = header.getAttribute("aria-sort") !== "ascending";
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        const key = (row) => row.cells[column].dataset.ssSort;
        const numeric = "ssNumeric" in header.dataset;
        const sign = ascending ? 1 : -1;
        const rows = [...body.rows].sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (x === "" || y === "") return (x === "") - (y === ""); // unknown values stay at the end
          return sign * (numeric ? x - y : x.localeCompare(y));
        });
        body.append(...rows);
      });
    });
  };

  // On paper there are no tabs: everything is shown and opened, and put back afterwards.
  const setUpPrinting = (root) => {
    let closed = [];
    let hidden = [];
    addEventListener("beforeprint", () => {
      closed = [...root.querySelectorAll("details:not([open])")];
      hidden = [...root.querySelectorAll("[data-ss-panel][hidden]")];
      closed.forEach((part) => { part.open = true; });
      hidden.forEach((part) => { part.hidden = false; });
    });
    addEventListener("afterprint", () => {
      closed.forEach((part) => { part.open = false; });
      hidden.forEach((part) => { part.hidden = true; });
    });
  };

  // On a page of its own, or in the shadow roots of a notebook.
  const trees = [document, ...[...document.querySelectorAll(".ss-host")].map((host) => host.shadowRoot)];
  const waiting = trees.flatMap((tree) => (tree ? [...tree.querySelectorAll(".ss-report:not([data-ss-ready])")] : []));
  for (const root of waiting) {
    root.dataset.ssReady = "";
    window.shortcutscopeReports = (window.shortcutscopeReports || 0) + 1;
    const showPanel = setUpTabs(root, window.shortcutscopeReports);
    setUpCards(root, showPanel);
    own(root, "[data-ss-sortable]").forEach(setUpSorting);
    setUpCopying(root);
    setUpPrinting(root);
  }
})();
