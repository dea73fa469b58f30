// Blend photograph and overlay, and enlarge them. Without this script every picture is still there.
"use strict";

function blend(slider, over) {
  const show = () => { over.style.opacity = slider.value / 100; };
  slider.addEventListener("input", show);
  show();
}

for (const card of document.querySelectorAll("article")) {
  const slider = card.querySelector("input[type=range]");
  if (slider) blend(slider, card.querySelector(".blend .over"));
}

const dialog = document.querySelector("dialog");
if (dialog) {
  const slider = dialog.querySelector("input");
  const [photograph, over] = dialog.querySelectorAll("img");
  blend(slider, over);
  for (const button of document.querySelectorAll(".blend button")) {
    button.addEventListener("click", () => {
      const [small, smallOver] = button.querySelectorAll("img");
      photograph.src = small.src;
      over.src = smallOver.src;
      slider.value = button.closest("article").querySelector("input[type=range]").value;
      slider.dispatchEvent(new Event("input"));
      dialog.showModal();
      slider.focus();
    });
  }
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}
