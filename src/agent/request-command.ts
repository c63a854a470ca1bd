/** `pilot-agent request` and `pilot-agent wait`: what people and istioctl ask a running agent or its proxy. Source: Istio pilot/cmd/pilot-agent/app. */
import { Command } from "commander";
import { log } from "../lib/log.ts";
import { pause } from "../lib/pause.ts";

const scope = log.scope("wait");

/** A request that failed; its message is for the user. */
export class RequestError extends Error {
  override readonly name = "RequestError";
}

/** Admin interface, status port, readiness listener: Istio's, and those that a machine's further gateways have. The tap that was is Istio's too. */
const requestPorts = [15000, 15004, 15020, 15021, 15100, 15120, 15121, 15200, 15220, 15221];
const requestTimeoutMs = 60_000;
const bodyLimit = 200;

interface WaitOptions {
  readonly timeoutSeconds: string;
  readonly requestTimeoutMillis: string;
  readonly periodMillis: string;
  readonly url: string;
}

export function requestCommands(): Command[] {
  return [
    new Command("request")
      .description("Make an HTTP request to the proxy's admin interface, or to another port of the agent")
      .argument("<method>")
      .argument("<path>")
      .argument("[body]")
      .option("--debug-port <port>", `one of ${requestPorts.join(", ")}`, "15000")
      .action(async (method: string, path: string, body: string | undefined, options: { debugPort: string }) => {
        process.stdout.write(await request(Number(options.debugPort), method, path, body));
      }),
    new Command("wait")
      .description("Wait until the proxy is ready")
      .option("--timeoutSeconds <n>", "give up after so many seconds", "60")
      .option("--requestTimeoutMillis <n>", "how long one answer may take", "500")
      .option("--periodMillis <n>", "how often to ask", "500")
      .option("--url <url>", "what to ask", "http://localhost:15021/healthz/ready")
      .action((options: WaitOptions) => waitUntilReady(options)),
  ];
}

/** Resolves with the body. Throws RequestError. */
async function request(port: number, method: string, path: string, body: string | undefined): Promise<string> {
  if (!requestPorts.includes(port)) throw new RequestError(`--debug-port: ${port} is none of ${requestPorts.join(", ")}`);
  const url = `http://127.0.0.1:${port}/${path.replace(/^\//, "")}`;
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(url, { method: method.toUpperCase(), body: body ?? null, signal: AbortSignal.timeout(requestTimeoutMs) });
    text = await answer.text();
  } catch (cause) {
    const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause.message : String(cause);
    throw new RequestError(`${url}: ${reason}`, { cause });
  }
  // What is not there is an answer too: istioctl asks old proxies for new pages.
  if (answer.status > 399 && answer.status !== 404) throw new RequestError(`${url}: status ${answer.status}: ${text.slice(0, bodyLimit)}`);
  return text;
}

async function waitUntilReady(options: WaitOptions): Promise<void> {
  const timeoutMs = positive("--timeoutSeconds", options.timeoutSeconds) * 1000;
  const requestMs = positive("--requestTimeoutMillis", options.requestTimeoutMillis);
  const periodMs = positive("--periodMillis", options.periodMillis);
  if (!URL.canParse(options.url)) throw new RequestError(`--url: "${options.url}" is no URL`);
  const end = AbortSignal.timeout(timeoutMs);
  let reason = "";
  while (!end.aborted) {
    await wakefulPause(periodMs, end);
    if (end.aborted) break;
    try {
      const { status } = await fetch(options.url, { signal: AbortSignal.timeout(requestMs) });
      if (status === 200) {
        scope.info("the proxy is ready");
        return;
      }
      reason = `status ${status}`;
    } catch (error) {
      reason = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    }
  }
  throw new RequestError(`the proxy is not ready after ${options.timeoutSeconds} s: ${options.url}: ${reason}`);
}

/** Nothing else keeps this process alive. */
async function wakefulPause(ms: number, signal: AbortSignal): Promise<void> {
  const keepAlive = setInterval(() => undefined, 1 << 30);
  await pause(ms, signal);
  clearInterval(keepAlive);
}

function positive(flag: string, text: string): number {
  if (!/^\d{1,9}$/.test(text) || Number(text) === 0) throw new RequestError(`${flag}: "${text}" is no number from 1`);
  return Number(text);
}
