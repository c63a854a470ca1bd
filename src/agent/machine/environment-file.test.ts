import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { EnvironmentFileError, parseEnvironmentFile } from "./environment-file.ts";

/** What bash makes of it: the truth for everything that needs no command. */
function bash(text: string): Record<string, string> {
  const script = `set -a; . /dev/stdin <<'THE_END_OF_IT'\n${text}\nTHE_END_OF_IT\nenv -0`;
  const { stdout } = spawnSync("bash", ["--norc", "--noprofile", "-c", script], {
    env: { PATH: process.env.PATH, HOME: "/root" },
    encoding: "utf8",
  });
  return Object.fromEntries(
    stdout
      .split("\0")
      .filter(Boolean)
      .map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]),
  );
}

const istioctl = `CANONICAL_REVISION='latest'
CA_ADDR='istiod-rev-1.istio-system.svc:15012'
ISTIO_INBOUND_PORTS='*'
ISTIO_LOCAL_EXCLUDE_PORTS='22,15090,15021,15020'
ISTIO_METAJSON_LABELS='{"app":"it'"'"'s","version":"v1"}'
ISTIO_META_POD_PORTS='[{"name":"http","containerPort":9080,"protocol":""}]'
ISTIO_SERVICE_CIDR='*'
TRUST_DOMAIN=''
W=www
`;

describe("parseEnvironmentFile", () => {
  it.each([
    ["what istioctl writes", istioctl],
    ["quotes that follow each other", `A=a'b'"c"d\\ e\nB="x \\"y\\" \\$z \\q"\nC='\\n'`],
    ["comments, blanks and several on a line", `  # one\n\nexport A=1 B=2 # two\nC=x#y\n\tD=\n`],
    ["references", `A=one\nB=$A-two\nC="\${B} three"\nD='$A'\nE=$UNKNOWN.\nF=100$\nG="$ 5"`],
    ["lines that go on", `A="one\ntwo"\nB=one\\\ntwo\nC="one\\\ntwo"`],
    ["patterns, which an assignment does not expand", `A=*\nB=[a-z]?\nC={a,b}\nD=a~b`],
    ["no newline at the end", "A=1"],
  ])("reads as bash does: %s", (_, text) => {
    const parsed = parseEnvironmentFile(text, "cluster.env");
    expect(Object.keys(parsed).length).toBeGreaterThan(0);
    expect(bash(text)).toMatchObject(parsed);
  });

  it("takes lines that end as Windows has them", () => {
    expect(parseEnvironmentFile("# one\r\nA=1\r\nB='2'\r\n\r\nC=3 # three\r\n", "sidecar.env")).toEqual({ A: "1", B: "2", C: "3" });
  });

  it("does not mind a byte order mark", () => {
    expect(parseEnvironmentFile(`\uFEFF${istioctl.replaceAll("\n", "\r\n")}`, "cluster.env")).toEqual(
      parseEnvironmentFile(istioctl, "cluster.env"),
    );
  });

  it("lets a file refer to what was known before", () => {
    expect(parseEnvironmentFile("B=$A/b", "sidecar.env", { A: "/a" })).toEqual({ B: "/a/b" });
    expect(parseEnvironmentFile("export A", "sidecar.env")).toEqual({});
  });

  it.each([
    ["A=1\nB=$(hostname)", "sidecar.env:2: what begins with $ is for a shell"],
    ["A=`hostname`", 'sidecar.env:1: "`" is for a shell'],
    ['A="`hostname`"', "sidecar.env:1: a command in ` ` is for a shell"],
    ["A=1; rm -rf /", 'sidecar.env:1: ";" is for a shell'],
    [`A=\${B:-x}`, "sidecar.env:1: what begins with $ is for a shell"],
    ["A=1 echo", 'sidecar.env:1: "echo" stands behind a value that has ended'],
    ["if true; then", "sidecar.env:1: is no assignment"],
    ["A=1\nexport B C", "sidecar.env:2: is no assignment"],
    ["\n\nA='open", "sidecar.env:3: a quote ' is not closed"],
    ['A="open\nB=1', 'sidecar.env:1: a quote " is not closed'],
    ["A=~/x", 'sidecar.env:1: "~" is for a shell'],
    ["1A=x", "sidecar.env:1: is no assignment"],
  ])("refuses what only a shell could do: %j", (text, message) => {
    expect(() => parseEnvironmentFile(text, "sidecar.env")).toThrow(EnvironmentFileError);
    expect(() => parseEnvironmentFile(text, "sidecar.env")).toThrow(message);
  });
});
