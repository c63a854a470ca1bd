/** What signing costs the authority, and what a key costs an agent. */
import { makeCertificateRequest } from "../../src/agent/certificates/certificate-request.ts";
import { CertificateAuthority } from "../../src/istiod/ca/certificate-authority.ts";
import { loadSelfSigned } from "../../src/istiod/ca/self-signed.ts";

async function timeOf(rounds: number, work: () => Promise<unknown>): Promise<string> {
  for (let round = 0; round < rounds / 5; round++) await work();
  const before = process.cpuUsage();
  for (let round = 0; round < rounds; round++) await work();
  const { user, system } = process.cpuUsage(before);
  return ((user + system) / 1000 / rounds).toFixed(2);
}

const uri = "spiffe://cluster.local/ns/default/sa/default";
const authority = new CertificateAuthority(await loadSelfSigned(undefined, "cluster.local"));
const { csr } = await makeCertificateRequest(uri, { type: "ec", curve: "P-256" });

process.stdout.write("milliseconds of CPU\n");
process.stdout.write(
  `request checked and signed, P-256  ${await timeOf(500, () => authority.signRequest(csr, [{ type: "url", value: uri }], 3600))}\n`,
);
process.stdout.write(
  `request made, P-256                ${await timeOf(500, () => makeCertificateRequest(uri, { type: "ec", curve: "P-256" }))}\n`,
);
process.stdout.write(
  `request made, RSA 2048             ${await timeOf(30, () => makeCertificateRequest(uri, { type: "rsa", bits: 2048 }))}\n`,
);
