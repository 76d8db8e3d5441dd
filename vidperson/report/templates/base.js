// Without a script the page is as it is. With it a click on the head of a column of a table with the class
// "sortable" sorts by that column, a second one turns it round. What is typed above a box with the class
// "searchable" leaves only the items with all of its words: elements with [data-item], or else the lines of a table.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const turn = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const rows = [...body.rows].sort((one, other) => {
        const [a, b] = [key(one), key(other)];
        if (a === "-" || b === "-") return (a === "-") - (b === "-");
        const [x, y] = [Number(a), Number(b)];
        return turn * (isNaN(x) || isNaN(y) ? a.localeCompare(b, "en", {numeric: true}) : x - y);
      });
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending");
      body.append(...rows);
    });
  });
}
for (const box of document.querySelectorAll(".searchable")) {
  const marked = [...box.querySelectorAll("[data-item]")];
  const items = marked.length ? marked : [...box.querySelectorAll("tbody tr")];
  const plain = text => text.normalize("NFC").toLowerCase();  // an accent may be a letter of its own in names of files
  const texts = items.map(item => plain(item.dataset.item || item.textContent));
  const groups = [...box.querySelectorAll("[data-group]")];
  const line = document.createElement("div"), input = document.createElement("input");
  const count = document.createElement("span");
  line.className = "search";
  line.setAttribute("role", "search");
  line.setAttribute("aria-label", box.dataset.label ?? "search");
  count.className = "note";
  count.setAttribute("role", "status");
  input.type = "search";
  input.placeholder = box.dataset.placeholder ?? "search, such as a name";
  input.setAttribute("aria-label", box.dataset.label ?? "show only lines with these words");
  const show = () => {
    const words = plain(input.value).split(/\s+/).filter(Boolean);
    let shown = 0;
    items.forEach((item, at) => {
      item.hidden = !words.every(word => texts[at].includes(word));
      shown += !item.hidden;
    });
    for (const group of groups) {
      group.hidden = words.length > 0 && !items.some(item => group.contains(item) && !item.hidden);
      if (group.tagName === "DETAILS") group.open = group.open || (words.length > 0 && !group.hidden);
    }
    count.textContent = words.length ? `${shown} of ${items.length}` : "";
  };
  input.addEventListener("input", show);
  line.append(input, count);
  box.prepend(line);
}
// Folds are open on paper. What was closed closes again afterwards.
const closed = new Set();
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details:not([open])")) { closed.add(fold); fold.open = true; }
});
addEventListener("afterprint", () => {
  for (const fold of closed) fold.open = false;
  closed.clear();
});
