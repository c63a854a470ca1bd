/** The API's own authority, and the kubeconfig of its first user. */
import { generateKeyPairSync } from "node:crypto";
import { join } from "node:path";
import { stringify } from "yaml";
import { formatHostPort } from "../../lib/host-port.ts";
import { isWildcard } from "../../lib/wildcard-address.ts";
import { writeWhole } from "../../lib/write-whole.ts";
import { CertificateAuthority } from "../ca/certificate-authority.ts";
import { loadSelfSigned } from "../ca/self-signed.ts";
import { adminGroup } from "./users.ts";

const adminDays = 90;

export async function openClientAuthority(dataDir: string | undefined): Promise<CertificateAuthority> {
  return new CertificateAuthority(await loadSelfSigned(dataDir ? join(dataDir, "api-ca") : undefined, "topsail-api"));
}

export interface KubeconfigOptions {
  readonly path: string;
  readonly host: string;
  readonly port: number;
  readonly clientAuthority: CertificateAuthority;
  /** PEM of the roots by which the API is known. */
  readonly serverRoots: string;
}

/** Writes it readable by its owner alone: it holds the key of somebody who may do everything. */
export async function writeKubeconfig({ path, host, port, clientAuthority, serverRoots }: KubeconfigOptions): Promise<void> {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const { chain } = await clientAuthority.sign(publicKey, [], adminDays * 24 * 3600, { O: adminGroup, CN: "topsail-admin" });
  const data = (text: string) => Buffer.from(text).toString("base64");
  const reachable = host === "" || isWildcard(host) ? "127.0.0.1" : host;
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "topsail",
        cluster: { server: `https://${formatHostPort({ host: reachable, port })}`, "certificate-authority-data": data(serverRoots) },
      },
    ],
    users: [
      {
        name: "topsail-admin",
        user: {
          "client-certificate-data": data(chain.join("")),
          "client-key-data": data(privateKey.export({ type: "pkcs8", format: "pem" }) as string),
        },
      },
    ],
    contexts: [{ name: "topsail", context: { cluster: "topsail", user: "topsail-admin" } }],
    "current-context": "topsail",
  };
  await writeWhole(path, stringify(config), 0o600);
}
