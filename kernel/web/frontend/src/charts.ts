/** Charts: every element with `data-chart` is drawn by ECharts in the page's colours and renewed when it is swapped. */
import { BarChart } from "echarts/charts";
import { GridComponent, TooltipComponent } from "echarts/components";
import { init, use } from "echarts/core";
import type { ECharts, EChartsCoreOption } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";

use([BarChart, GridComponent, TooltipComponent, CanvasRenderer]);

interface Spec {
  /** columns stand side by side over a time, bars lie below each other by size */
  kind: "columns" | "bars";
  names: string[];
  series: { name: string; values: number[] }[];
}

const drawn = new Map<HTMLElement, ECharts>();

/** A colour token as the canvas knows it; `light-dark()` is resolved by the browser. */
function colour(element: HTMLElement, token: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${token})`;
  element.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function option(element: HTMLElement, spec: Spec): EChartsCoreOption {
  const brand = colour(element, "--brand-fill");
  const soft = colour(element, "--ink-soft");
  const line = colour(element, "--line");
  const names = { type: "category", data: spec.names, axisTick: { show: false }, axisLine: { lineStyle: { color: line } }, axisLabel: { color: soft } };
  const values = { type: "value", minInterval: 1, splitLine: { lineStyle: { color: line } }, axisLabel: { color: soft } };
  const lying = spec.kind === "bars";
  const label = { show: lying, position: "right", color: soft };
  return {
    animationDuration: 300,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
    grid: { left: 4, right: lying ? 44 : 8, top: 14, bottom: 2, containLabel: true },
    tooltip: { trigger: "axis", renderMode: "richText", axisPointer: { type: "shadow" } },
    xAxis: lying ? { ...values, show: false } : names,
    yAxis: lying ? { ...names, inverse: true, axisLine: { show: false } } : values,
    series: spec.series.map(({ name, values: data }) => ({
      name,
      type: "bar",
      data,
      label,
      barMaxWidth: lying ? 16 : 22,
      itemStyle: { color: brand, borderRadius: lying ? [0, 4, 4, 0] : [4, 4, 0, 0] },
      emphasis: { itemStyle: { color: colour(element, "--brand") } },
    })),
  };
}

function drawAll(): void {
  for (const [element, chart] of drawn) {
    if (element.isConnected) continue;
    chart.dispose();
    drawn.delete(element);
  }
  for (const element of document.querySelectorAll<HTMLElement>("[data-chart]")) {
    const spec = JSON.parse(element.dataset["chart"] ?? "{}") as Spec;
    const chart = drawn.get(element) ?? init(element);
    drawn.set(element, chart);
    chart.setOption(option(element, spec));
  }
}

drawAll();
new MutationObserver((changes) => {
  const fresh = changes.some((change) => [...change.addedNodes].some((node) => node instanceof HTMLElement && (node.matches("[data-chart]") || node.querySelector("[data-chart]"))));
  if (fresh) drawAll();
}).observe(document.querySelector("#main")!, { childList: true, subtree: true });
window.addEventListener("resize", () => drawn.forEach((chart) => chart.resize()));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
