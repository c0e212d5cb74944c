/** The search of everything in the top bar; htmx fetches what was found into #found. */
export function setUpFinder(): void {
  const form = document.querySelector<HTMLFormElement>("[data-finder]");
  const input = form?.querySelector<HTMLInputElement>("input");
  const found = form?.querySelector<HTMLElement>("#found");
  if (!form || !input || !found) return;

  const show = (open: boolean): void => {
    found.hidden = !open;
    input.setAttribute("aria-expanded", String(open));
  };
  new MutationObserver(() => show(found.childElementCount > 0 && input.value.trim() !== "")).observe(found, {
    childList: true,
  });
  input.addEventListener("input", () => input.value.trim() === "" && show(false));
  input.addEventListener("focus", () => show(found.childElementCount > 0 && input.value.trim() !== ""));
  document.addEventListener("click", (event) => form.contains(event.target as Node) || show(false));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      show(false);
      input.focus();
    }
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (!step || found.hidden) return;
    const stops: HTMLElement[] = [input, ...found.querySelectorAll<HTMLElement>("a")];
    const next = stops[stops.indexOf(document.activeElement as HTMLElement) + step];
    event.preventDefault();
    next?.focus();
  });
}
