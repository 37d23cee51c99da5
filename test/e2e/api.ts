import { setTimeout as sleep } from "node:timers/promises";
import type { EvaluationMessage } from "#core/api/evaluations.ts";

export interface BuildItem {
  readonly id: string;
  readonly name: string;
  readonly status: string;
}

export interface EvaluationView {
  readonly id: string;
  readonly status: string;
  readonly error_count: number;
  readonly waiting_reason?: unknown;
}

const ENDED = ["Completed", "Failed", "Aborted"];

/** A client of the HTTP API with the token of one person. Answers that are errors are thrown with their text. */
export class Api {
  readonly #base: string;
  token = "";

  constructor(serverUrl: string) {
    this.#base = `${serverUrl}/api/v1`;
  }

  async request<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.fetch(method, path, body);
    const answer = (await response.json()) as { error: boolean; message: T; code?: string };
    if (answer.error) throw new Error(`${method} ${path}: ${response.status} ${answer.code}: ${answer.message}`);
    return answer.message;
  }

  fetch(method: string, path: string, body?: unknown): Promise<Response> {
    return fetch(`${this.#base}${path}`, {
      method,
      headers: {
        ...(this.token ? { Authorization: `Bearer ${this.token}` } : {}),
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  }

  async signUp(username: string): Promise<void> {
    const password = "Corr3ct-Horse!";
    const person = { username, name: "Ada Lovelace", email: `${username}@example.org`, password };
    await this.request("POST", "/auth/basic/register", person);
    this.token = await this.request("POST", "/auth/basic/login", { loginname: username, password });
  }

  /** Starts an evaluation and answers its id. */
  async evaluate(project: string): Promise<string> {
    await this.request("POST", `/projects/${project}/evaluate`, {});
    const [newest] = await this.request<{ id: string }[]>("GET", `/projects/${project}/evaluations`);
    if (!newest) throw new Error("there is no evaluation");
    return newest.id;
  }

  evaluation(id: string): Promise<EvaluationView> {
    return this.request("GET", `/evals/${id}`);
  }

  /** The default is less than what a test may take: the test fails by this, with words, and still cleans up. */
  async waitForEnd(id: string, timeoutMs = 50_000): Promise<EvaluationView> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const view = await this.evaluation(id);
      if (ENDED.includes(view.status)) return view;
      if (performance.now() > deadline) {
        throw new Error(`the evaluation is still ${view.status}: ${JSON.stringify(await this.builds(id))}`);
      }
      await sleep(50);
    }
  }

  async builds(evaluationId: string): Promise<BuildItem[]> {
    return (await this.request<{ builds: BuildItem[] }>("GET", `/evals/${evaluationId}/builds`)).builds;
  }

  messages(evaluationId: string): Promise<EvaluationMessage[]> {
    return this.request("GET", `/evals/${evaluationId}/messages`);
  }

  log(buildId: string): Promise<string> {
    return this.request("GET", `/builds/${buildId}/log`);
  }
}
