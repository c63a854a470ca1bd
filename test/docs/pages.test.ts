/**
 * Every command of README and docs/ runs as it stands there. A page is one shell session in a directory that holds nothing but the project's
 * samples/, with the built executable on the path; a ```text block behind a ```sh block is what the commands print (`...` stands for anything).
 */
import { spawn, spawnSync } from "node:child_process";
import { globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { kubectls } from "../support/kubectl.ts";
import { binary } from "../support/topsail.ts";

const root = join(import.meta.dirname, "..", "..");
const pages = ["README.md", ...globSync("docs/*.md", { cwd: root }).sort()];

/** Commands that can't run inside a test run; what runs them instead. */
const elsewhere: Readonly<Record<string, string>> = {
  "npm start": "test/e2e/npm-start.test.ts",
  "npm test": ".ci/run",
  "npm run bench": "bench/, too long for a test",
};

/** What a page may need and a machine may lack. */
const missingTools = [...(kubectls.length > 0 ? [] : ["kubectl"]), ...["dig"].filter((tool) => spawnSync("which", [tool]).status !== 0)];

interface Step {
  readonly line: number;
  readonly commands: string;
  readonly output: string | undefined;
}

function stepsOf(page: string): Step[] {
  const text = readFileSync(join(root, page), "utf8");
  const blocks = [...text.matchAll(/^```(?<language>\w*)\n(?<body>[\s\S]*?)^```$/gm)].map((match) => ({
    language: match.groups!.language!,
    body: match.groups!.body!,
    line: text.slice(0, match.index).split("\n").length,
  }));
  return blocks.flatMap((block, index) => {
    if (block.language !== "sh") return [];
    const next = blocks[index + 1];
    return [{ line: block.line, commands: block.body, output: next?.language === "text" ? next.body : undefined }];
  });
}

/** One bash for the page; each step's output is what comes until its marker. */
class Session {
  readonly #shell;
  #output = "";
  #step = 0;

  constructor(directory: string) {
    const path = join(directory, ".bin");
    mkdirSync(path);
    symlinkSync(binary, join(path, "topsail"));
    symlinkSync(join(root, "samples"), join(directory, "samples"));
    if (kubectls[0]?.startsWith("/")) symlinkSync(kubectls[0], join(path, "kubectl"));
    // A process group of its own, so that whatever a page leaves running ends with it.
    this.#shell = spawn("bash", ["--norc", "--noprofile"], {
      cwd: directory,
      detached: true,
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, PATH: `${path}:${process.env.PATH}`, NO_COLOR: "1" },
    });
    const collect = (chunk: Buffer) => {
      this.#output += chunk;
    };
    this.#shell.stdout.on("data", collect);
    // Through one pipe, so that what a command says on stderr comes before the marker behind it.
    this.#shell.stdin.write("exec 2>&1\n");
  }

  async run(commands: string, timeoutMs: number): Promise<string> {
    const marker = `--- end of step ${++this.#step} ---`;
    const start = this.#output.length;
    this.#shell.stdin.write(`${commands}\necho "${marker}"\n`);
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const end = this.#output.indexOf(marker, start);
      if (end >= 0) return this.#output.slice(start, end);
      if (Date.now() > deadline)
        throw new Error(`the commands did not end in time:\n${commands}\n--- output ---\n${this.#output.slice(start)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  end(): void {
    try {
      process.kill(-this.#shell.pid!, "SIGKILL");
    } catch {
      // All of it has ended by itself.
    }
  }
}

/** Each line must appear, in this order; a line of the output may stand between two. */
function expectOutput(actual: string, expected: string): void {
  const lines = actual.split("\n").map((line) => line.trimEnd());
  let from = 0;
  for (const wanted of expected.split("\n").filter((line) => line.trim() !== "" && line.trim() !== "...")) {
    const pattern = new RegExp(
      `^${wanted
        .trimEnd()
        .split("...")
        .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))
        .join(".*")}$`,
    );
    const found = lines.findIndex((line, index) => index >= from && pattern.test(line));
    if (found < 0) expect.fail(`no line like\n  ${wanted}\nin\n${actual}`);
    from = found + 1;
  }
}

describe.each(pages)("%s", (page) => {
  const steps = stepsOf(page).filter(
    ({ commands }) =>
      !commands
        .trim()
        .split("\n")
        .every((command) => command.replace(/\s*#.*$/, "") in elsewhere),
  );

  const missing = missingTools.filter((tool) => steps.some(({ commands }) => new RegExp(`^${tool} `, "m").test(commands)));
  if (missing.length > 0) process.stderr.write(`${page}: skipped, there is no ${missing.join(", ")} on this machine\n`);

  it.runIf(steps.length > 0 && missing.length === 0)("does what it says", { timeout: 120_000 }, async () => {
    const directory = mkdtempSync(join(tmpdir(), "topsail-docs-"));
    const session = new Session(directory);
    try {
      for (const step of steps) {
        const output = await session.run(step.commands, 60_000);
        if (step.output !== undefined) expectOutput(output, step.output);
        else expect(output, `${page}:${step.line}`).not.toMatch(/command not found|No such file|^error:/m);
      }
    } finally {
      session.end();
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
