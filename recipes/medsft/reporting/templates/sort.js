// A click on a column's heading sorts the table by it; nothing is loaded or sent.
for (const table of document.querySelectorAll("table.sort")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = row => {
        const text = row.cells[column].textContent.trim();
        const number = parseFloat(text.replace("−", "-").replace(/,/g, "").replace(/^< /, ""));
        return Number.isNaN(number) ? [1, text] : [0, number];
      };
      const order = (a, b) => a[0] - b[0] || (a[1] > b[1]) - (a[1] < b[1]);
      const rows = [...table.tBodies[0].rows].sort((a, b) => order(value(a), value(b)) * (down ? -1 : 1));
      table.tBodies[0].append(...rows);
    });
  });
}
