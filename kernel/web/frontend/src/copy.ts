/** Buttons with `data-copy` put that text on the clipboard and say so for a moment. */
export function copyOnClick(root: Document): void {
  root.addEventListener("click", (event) => {
    const button = (event.target as Element).closest<HTMLElement>("[data-copy]");
    if (!button) return;
    void copy(button.dataset["copy"] ?? "").then(() => {
      button.classList.add("is-copied");
      window.setTimeout(() => button.classList.remove("is-copied"), 1500);
    });
  });
}

async function copy(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}
