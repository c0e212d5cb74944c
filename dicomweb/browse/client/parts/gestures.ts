/** Mouse, pen, fingers and wheel on the image pane, as what they mean. */
export type Tool = "scroll" | "window" | "pan" | "zoom";

export interface Meanings {
  tool(): Tool;
  /** How many screen pixels of dragging make one slice. */
  pixelsPerSlice(): number;
  scroll(slices: number): void;
  window(dx: number, dy: number): void;
  windowEnd(): void;
  pan(dx: number, dy: number): void;
  zoom(factor: number, clientX: number, clientY: number): void;
  reset(): void;
}

/** A report in the pane is text: it scrolls and can be selected. */
const READ_AND_SCROLLED = ".pane-message:has(.report)";
const WHEEL_STEP = 40;
const ZOOM_PER_PIXEL = 1.006;

interface Point {
  x: number;
  y: number;
}

export function listen(pane: HTMLElement, meanings: Meanings): void {
  const fingers = new Map<number, Point>();
  let acting: Tool = "scroll";
  let carried = 0;

  const drag = (tool: Tool, dx: number, dy: number, at: Point): void => {
    if (tool === "window") meanings.window(dx, dy);
    else if (tool === "pan") meanings.pan(dx, dy);
    else if (tool === "zoom") meanings.zoom(ZOOM_PER_PIXEL ** -dy, at.x, at.y);
    else {
      carried += dy / meanings.pixelsPerSlice();
      const whole = Math.trunc(carried);
      carried -= whole;
      if (whole) meanings.scroll(whole);
    }
  };

  const pinch = (moved: number, to: Point): void => {
    const [otherId] = [...fingers.keys()].filter((id) => id !== moved);
    const from = fingers.get(moved)!;
    const other = fingers.get(otherId!)!;
    const before = Math.hypot(from.x - other.x, from.y - other.y);
    const after = Math.hypot(to.x - other.x, to.y - other.y);
    meanings.pan((to.x - from.x) / 2, (to.y - from.y) / 2);
    if (before > 8) meanings.zoom(after / before, (to.x + other.x) / 2, (to.y + other.y) / 2);
  };

  pane.addEventListener("pointerdown", (event) => {
    if ((event.target as Element).closest(`a, button, ${READ_AND_SCROLLED}`)) return;
    pane.setPointerCapture(event.pointerId);
    pane.focus({ preventScroll: true });
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    carried = 0;
    acting = event.button === 2 ? "window" : event.button === 1 || event.shiftKey ? "pan" : meanings.tool();
    event.preventDefault();
  });
  pane.addEventListener("pointermove", (event) => {
    const from = fingers.get(event.pointerId);
    if (!from) return;
    const to = { x: event.clientX, y: event.clientY };
    if (fingers.size === 2) pinch(event.pointerId, to);
    else if (fingers.size === 1) drag(acting, to.x - from.x, to.y - from.y, to);
    fingers.set(event.pointerId, to);
  });
  const release = (event: PointerEvent): void => {
    if (fingers.delete(event.pointerId) && acting === "window") meanings.windowEnd();
  };
  pane.addEventListener("pointerup", release);
  pane.addEventListener("pointercancel", release);
  pane.addEventListener("contextmenu", (event) => event.preventDefault());
  pane.addEventListener("dblclick", () => meanings.reset());
  pane.addEventListener("wheel", (event) => onWheel(event), { passive: false });

  let wheeled = 0;
  let wheeledAt = 0;
  const onWheel = (event: WheelEvent): void => {
    if ((event.target as Element).closest(READ_AND_SCROLLED)) return;
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) {
      meanings.zoom(1.0025 ** -event.deltaY, event.clientX, event.clientY);
      return;
    }
    if (event.timeStamp - wheeledAt > 250) wheeled = 0;
    wheeledAt = event.timeStamp;
    wheeled += event.deltaMode === 0 ? event.deltaY : event.deltaY * WHEEL_STEP;
    if (Math.abs(wheeled) < WHEEL_STEP) return;
    const slices = Math.abs(event.deltaY) >= 100 ? Math.sign(wheeled) : Math.trunc(wheeled / WHEEL_STEP);
    wheeled = 0;
    meanings.scroll(slices);
  };
}
