// The names of curves are buttons: one shows or hides its curve; while one points at it, the others fade.
for (const figure of document.querySelectorAll("figure.plot.chosen")) {
  const curves = [...figure.querySelectorAll("g[data-curve]")];
  if (curves.length < 2) continue;
  for (const key of figure.querySelectorAll(".key")) {
    const button = document.createElement("button"), own = curves[key.dataset.curve];
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.append(...key.childNodes);
    key.append(button);
    const fade = faded => curves.forEach(curve => curve.classList.toggle("faded", faded && curve !== own));
    button.addEventListener("click", () => {
      const shown = own.toggleAttribute("hidden") === false;
      button.setAttribute("aria-pressed", String(shown));
      fade(false);
    });
    for (const [name, faded] of [["pointerenter", true], ["focus", true], ["pointerleave", false], ["blur", false]]) {
      button.addEventListener(name, () => fade(faded && !own.hasAttribute("hidden")));
    }
  }
}
