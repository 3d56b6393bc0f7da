/** Lines over the minutes. Loaded when a page has a chart. */
import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Minute } from "../minutes";
import { count } from "../text";

export type Line = { name: string; tone: string; of: (minute: Minute) => number | null };

const HEIGHT_PX = 150;

/** The colours of the page as they are now; the canvas cannot follow them by itself. */
function colours() {
  const style = getComputedStyle(document.documentElement);
  const resolve = (name: string) => {
    const probe = document.createElement("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const { color } = getComputedStyle(probe);
    probe.remove();
    return color;
  };
  return {
    ink: resolve("--ink-2"),
    grid: resolve("--line"),
    tone: (tone: string) => resolve(`--${tone}`),
    font: style.fontFamily,
  };
}

function plot(lines: readonly Line[], at: HTMLElement): uPlot {
  const { ink, grid, tone, font } = colours();
  const axis = {
    stroke: ink,
    grid: { stroke: grid, width: 1 },
    ticks: { show: false },
    font: `11px ${font}`,
  };
  return new uPlot(
    {
      ...{
        width: Math.max(at.clientWidth, 100),
        height: HEIGHT_PX,
        cursor: { y: false, drag: { x: false, y: false } },
      },
      legend: { show: false },
      scales: { y: { range: (_, __, max) => [0, Math.max(1, max * 1.1)] } },
      axes: [
        {
          ...axis,
          size: 26,
          values: (_, ticks) => ticks.map((tick) => new Date(tick * 1_000).toTimeString().slice(0, 5)),
        },
        { ...axis, size: 44, values: (_, ticks) => ticks.map((tick) => count(tick)) },
      ],
      series: [
        {},
        ...lines.map(({ name, tone: colour }) => ({
          ...{ label: name, stroke: tone(colour), width: 2, spanGaps: true, points: { show: false } },
        })),
      ],
    },
    [[], ...lines.map(() => [])],
    at,
  );
}

function useThemeChange(): number {
  const [changes, setChanges] = useState(0);
  useEffect(() => {
    const changed = () => setChanges((now) => now + 1);
    const media = matchMedia("(prefers-color-scheme: dark)");
    media.addEventListener("change", changed);
    const observer = new MutationObserver(changed);
    observer.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => {
      media.removeEventListener("change", changed);
      observer.disconnect();
    };
  }, []);
  return changes;
}

export default function Chart({
  title,
  minutes,
  lines,
}: {
  title: string;
  minutes: Minute[];
  lines: Line[];
}) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const theme = useThemeChange();
  const names = lines.map(({ name }) => name).join();
  useEffect(() => {
    const at = box.current!;
    chart.current = plot(lines, at);
    const observer = new ResizeObserver(() =>
      chart.current?.setSize({ width: Math.max(at.clientWidth, 100), height: HEIGHT_PX }),
    );
    observer.observe(at);
    return () => {
      observer.disconnect();
      chart.current?.destroy();
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps -- lines are what their names say
  }, [theme, names]);
  useEffect(() => {
    chart.current?.setData([
      minutes.map(({ bucket }) => bucket / 1_000),
      ...lines.map(({ of }) => minutes.map((minute) => of(minute))),
    ] as uPlot.AlignedData);
  }, [minutes, lines, theme, names]);
  return (
    <figure className="chart">
      <figcaption>
        {title}
        <span className="keys">
          {lines.map(({ name, tone }) => (
            <span key={name}>
              <i className={`key ${tone}`} aria-hidden="true" />
              {name}
            </span>
          ))}
        </span>
      </figcaption>
      <div
        ref={box}
        role="img"
        aria-label={`${title}: ${lines.map((line) => spoken(line, minutes)).join("; ")}`}
      />
    </figure>
  );
}

function spoken({ name, of }: Line, minutes: Minute[]): string {
  const values = minutes.map(of).filter((value) => value !== null);
  const last = values.at(-1);
  if (last === undefined) return `${name}: nothing`;
  return `${name}: last ${count(Math.round(last * 10) / 10)}, most ${count(Math.round(Math.max(...values) * 10) / 10)}`;
}
