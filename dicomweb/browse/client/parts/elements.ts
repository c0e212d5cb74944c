/** The table of DICOM elements beside the image, with a filter. */
export interface ElementsPanel {
  toggle(): boolean;
  /** The object whose elements are shown; loaded when the panel is open. */
  follow(address: string): void;
}

export function createElementsPanel(panel: HTMLElement, failed: string): ElementsPanel {
  const body = panel.querySelector<HTMLElement>("[data-elements-body]")!;
  const filter = panel.querySelector<HTMLInputElement>("[data-elements-filter]")!;
  let address = "";
  let shown = "";
  let timer = 0;

  const applyFilter = (): void => {
    const needle = filter.value.trim().toLowerCase().replace(/[(),]/g, "");
    for (const row of body.querySelectorAll<HTMLElement>("tbody tr")) {
      row.hidden = !row.textContent!.toLowerCase().replace(/[(),]/g, "").includes(needle);
    }
  };

  const load = async (): Promise<void> => {
    const asked = address;
    if (panel.hidden || !asked || asked === shown) return;
    const answer = await fetch(asked, { headers: { Accept: "text/html" } }).catch(() => undefined);
    if (asked !== address) return;
    shown = answer?.ok ? asked : "";
    if (answer?.ok) body.innerHTML = await answer.text();
    else body.textContent = failed;
    applyFilter();
  };

  filter.addEventListener("input", applyFilter);
  return {
    toggle() {
      panel.hidden = !panel.hidden;
      void load();
      return !panel.hidden;
    },
    follow(next) {
      address = next;
      window.clearTimeout(timer);
      timer = window.setTimeout(() => void load(), 250);
    },
  };
}
