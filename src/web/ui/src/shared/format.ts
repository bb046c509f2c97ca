/** How numbers and times are shown. */

/** `0.1`, `12`, `1,024`. */
export const number = (value: number | undefined): string =>
  value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: 2 });

/** Mebibytes as `512 MiB` or `1.5 GiB`. */
export const mebibytes = (value: number | undefined): string =>
  value === undefined ? "–" : value >= 1024 ? `${number(value / 1024)} GiB` : `${number(value)} MiB`;

/** Seconds since 1970, or an ISO time, as `3 min ago`. */
export function ago(time: number | string | undefined | null): string {
  if (time === undefined || time === null) return "–";
  const then = typeof time === "number" ? time * 1000 : Date.parse(time);
  const seconds = Math.max(0, Math.round((Date.now() - then) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

/** How a task's state is coloured. */
export function tone(state: string): "good" | "bad" | "wait" {
  if (state === "TASK_RUNNING" || state === "TASK_FINISHED") return "good";
  if (/FAILED|LOST|ERROR|GONE|UNREACHABLE|DROPPED/.test(state)) return "bad";
  return "wait";
}

/** `TASK_RUNNING` as `Running`. */
export const state = (name: string): string => {
  const word = name.replace(/^TASK_/, "").replaceAll("_", " ").toLowerCase();
  return word.charAt(0).toUpperCase() + word.slice(1);
};
