// Shows what a box is where it is pointed at or tapped, and lights up its map's other boxes.
for (const figure of document.querySelectorAll("figure")) {
  const info = figure.querySelector(".info");
  const boxes = [...figure.querySelectorAll(".boxes rect")];
  const show = (event) => {
    const box = event.target.closest(".boxes rect");
    for (const other of boxes) {
      other.classList.toggle("on", box !== null && other.dataset.f === box.dataset.f);
    }
    const title = box && box.querySelector("title");
    info.textContent = title ? title.textContent.replaceAll("\n", " · ") : "";
  };
  figure.addEventListener("pointerover", show);
  figure.addEventListener("click", show);
}
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "copied";
    } catch {
      button.textContent = button.dataset.copy;
    }
  });
}
