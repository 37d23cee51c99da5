import { readFileSync } from "node:fs";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { InstanceMetrics } from "#core/services/instance-metrics.ts";
import type { AnsweredRequest } from "#handlers/middleware/observe.ts";
import type { MemoryCounts } from "./memory-answers.ts";

/** In seconds. */
const DURATION_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** Whoever makes up methods makes no series. */
const METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
const OTHER_METHOD = "other";

export interface MetricsOptions {
  readonly version: string;
  /** What any server of the database would tell. */
  readonly measure: () => Promise<InstanceMetrics>;
  /** What was answered of memory since the last call. */
  readonly takeFromMemory: () => MemoryCounts;
}

export interface Metrics {
  readonly contentType: string;
  readonly onAnswered: (answered: AnsweredRequest) => void;
  /** Prometheus' text format. Rejects when something cannot be measured: half a page would look like a fall to zero. */
  render(): Promise<string>;
}

/** The figures of this process, and those of the whole instance, which are measured when they are asked for. */
export function createMetrics({ version, measure, takeFromMemory }: MetricsOptions): Metrics {
  const register = new Registry();
  collectDefaultMetrics({ register });
  describeProcess(register, version);
  const { onAnswered, countFromMemory } = httpSeries(register);
  const showInstance = instanceSeries(register);
  let rendering: Promise<string> | null = null;

  async function render(): Promise<string> {
    const measured = await measure();
    countFromMemory(takeFromMemory());
    showInstance(measured);
    return await register.metrics();
  }

  return {
    contentType: register.contentType,
    onAnswered,
    // Scrapers that come together are told the same: the figures are set anew for each page.
    render() {
      rendering ??= render().finally(() => {
        rendering = null;
      });
      return rendering;
    },
  };
}

function describeProcess(register: Registry, version: string): void {
  const registers = [register];
  new Gauge({ name: "gradient_info", help: "Which release runs.", labelNames: ["version"], registers }).set(
    { version },
    1,
  );
  new Gauge({
    name: "gradient_uptime_seconds",
    help: "For how long this process has run.",
    registers,
    collect() {
      this.set(process.uptime());
    },
  });
  new Gauge({
    name: "process_threads",
    help: "Threads of this process.",
    registers,
    collect() {
      const threads = /^Threads:\s*(\d+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
      if (threads !== undefined) this.set(Number(threads));
    },
  });
}

function httpSeries(register: Registry) {
  const registers = [register];
  const durations = new Histogram({
    name: "gradient_http_request_duration_seconds",
    help: "From a request to its answer's headers. Narinfos that are answered of memory are not timed.",
    labelNames: ["method", "route"] as const,
    buckets: DURATION_BUCKETS,
    registers,
  });
  const requests = new Counter({
    name: "gradient_http_requests_total",
    help: "Requests that this process has answered.",
    labelNames: ["method", "route", "status"] as const,
    registers,
  });
  return {
    onAnswered({ method: asked, route, status, seconds }: AnsweredRequest): void {
      const method = METHODS.has(asked) ? asked : OTHER_METHOD;
      durations.observe({ method, route }, seconds);
      requests.inc({ method, route, status });
    },
    countFromMemory({ narInfos, notModified, nars, places }: MemoryCounts): void {
      const narInfo = { method: "GET", route: "/cache/:cache/:hash.narinfo" };
      if (narInfos > 0) requests.inc({ ...narInfo, status: 200 }, narInfos);
      if (notModified > 0) requests.inc({ ...narInfo, status: 304 }, notModified);
      const nar = { method: "GET", route: "/cache/:cache/nar/:file" };
      if (nars > 0) requests.inc({ ...nar, status: 200 }, nars);
      if (places > 0) requests.inc({ ...nar, status: 204 }, places);
    },
  };
}

/** Sets every series of the instance to what was measured. */
function instanceSeries(register: Registry): (measured: InstanceMetrics) => void {
  const registers = [register];
  const gauge = (name: string, help: string) => new Gauge({ name: `gradient_${name}`, help, registers });
  const counter = (name: string, help: string) => new Counter({ name: `gradient_${name}`, help, registers });
  const labelNames = ["status"] as const;
  const states = (name: string, help: string) => new Gauge({ name: `gradient_${name}`, help, labelNames, registers });
  const ends = (name: string, help: string) => new Counter({ name: `gradient_${name}`, help, labelNames, registers });
  const series = {
    builds: ends("builds_total", "Builds that have ended, by how, since the beginning."),
    buildsIn: states("builds_in_state", "Builds that have not ended, by their state."),
    evaluations: ends("evaluations_total", "Evaluations that have ended, by how, since the beginning."),
    evaluationsIn: states("evaluations_in_state", "Evaluations that have not ended, by their state."),
    workers: gauge("workers_connected", "Workers that are connected to any server of the instance."),
    pending: gauge("jobs_pending", "Builds and evaluations that a worker could take."),
    active: gauge("jobs_active", "Builds and evaluations that workers are at."),
    bytes: gauge("cache_bytes", "What the caches hold, as it is stored; a file counts for each of its paths."),
    narBytes: gauge("cache_nar_bytes", "What the caches hold, unpacked."),
    packages: gauge("cache_packages", "Paths in all caches."),
    bytesSent: counter("cache_nar_bytes_sent_total", "Bytes of NARs that were sent, since the beginning."),
    requests: counter("cache_nar_requests_total", "NARs that were sent, since the beginning."),
  };
  return (measured) => {
    for (const [status, count] of measured.openBuilds) series.buildsIn.set({ status }, count);
    for (const [status, count] of measured.openEvaluations) series.evaluationsIn.set({ status }, count);
    setTotals(series.builds, measured.endedBuilds);
    setTotals(series.evaluations, measured.endedEvaluations);
    series.workers.set(measured.workersConnected);
    series.pending.set(measured.jobsPending);
    series.active.set(measured.jobsActive);
    series.bytes.set(measured.cacheBytes);
    series.narBytes.set(measured.cacheNarBytes);
    series.packages.set(measured.cachePaths);
    series.bytesSent.reset();
    series.bytesSent.inc(measured.narBytesSent);
    series.requests.reset();
    series.requests.inc(measured.narRequestsSent);
  };
}

/** What the database has counted: this process has counted none of it. */
function setTotals(counter: Counter<"status">, totals: readonly (readonly [string, number])[]): void {
  counter.reset();
  for (const [status, count] of totals) counter.inc({ status }, count);
}
