/** As most resources show it: UTC without a zone, `YYYY-MM-DDTHH:MM:SS.ffffff`. */
export function naiveTime(time: Date): string {
  return `${time.toISOString().slice(0, -1)}000`;
}

/** As keys and sessions show it: RFC 3339 with `+00:00`. */
export function zonedTime(time: Date): string {
  return `${naiveTime(time)}+00:00`;
}
