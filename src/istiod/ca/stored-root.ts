/**
 * What several control planes share through their store: the root of their own making, in Istio's Secret `istio-ca-secret`, and the key that
 * signs tokens. Of several that start at once one makes it, and the others take what that one made.
 * Source: Istio security/pkg/pki/ca/{ca.go,selfsignedcarootcertrotator.go}.
 */
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { ConfigError } from "../../api/config-error.ts";
import { decodeObject } from "../../api/documents/decode-object.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { Secret } from "../../api/kinds/secret.ts";
import { type ConfigStore, type Precondition, StoreError, type WritableConfigStore } from "../../config/store.ts";
import { splitCertificates } from "../../lib/pem.ts";
import { parsePrivateKey } from "../../lib/signing-key.ts";
import { problemOf, type SigningMaterial } from "./certificate-authority.ts";
import { isDue, renewSelfSigned } from "./self-signed.ts";

const namespace = "istio-system";
export const storedRootKey = { kind: "Secret", namespace, name: "istio-ca-secret" } as const;
const tokenKeyKey = { kind: "Secret", namespace, name: "topsail-token-key" } as const;
type SharedKey = typeof storedRootKey | typeof tokenKeyKey;

/** Undefined when there is none. Throws ConfigError for one that can't be used. */
export function readStoredRoot(store: ConfigStore): SigningMaterial | undefined {
  const secret = store.get(storedRootKey);
  if (!secret) return undefined;
  const problem = (name: string, message: string) =>
    new ConfigError(message, { position: { file: `Secret ${namespace}/${storedRootKey.name}[${name}]`, line: 1 } });
  const [certificate] = splitCertificates(textOf(secret, "ca-cert.pem"));
  if (certificate === undefined) throw problem("ca-cert.pem", "holds no certificate in PEM");
  const roots = splitCertificates(textOf(secret, "root-cert.pem"));
  let key: KeyObject;
  try {
    key = parsePrivateKey(textOf(secret, "ca-key.pem"));
  } catch (error) {
    throw problem("ca-key.pem", error instanceof Error ? error.message : String(error));
  }
  const material: SigningMaterial = { certificate, key, intermediates: [], roots: roots.length > 0 ? roots : [certificate] };
  const reason = problemOf(material, Date.now());
  if (reason) throw problem("ca-cert.pem", reason);
  return material;
}

/** Puts the root that `make` gives into the store, or takes the one that is there by then. */
export async function shareRoot(store: WritableConfigStore, make: () => Promise<SigningMaterial>): Promise<SigningMaterial> {
  if (!store.get(storedRootKey)) await putIfUnchanged(store, secretOf(await make()), { absent: true });
  const shared = readStoredRoot(store);
  if (!shared) throw new StoreError("unavailable", "the shared root is gone again");
  return shared;
}

/** Prolongs the shared root when that is due, unless another control plane just has. Whether there is a new one. */
export async function renewSharedRoot(store: WritableConfigStore, organization: string, now: number): Promise<boolean> {
  const present = store.get(storedRootKey);
  const material = readStoredRoot(store);
  if (!present || !material || !isDue(material, now)) return false;
  const renewed = await renewSelfSigned(undefined, organization, material);
  return putIfUnchanged(store, secretOf(renewed), { resourceVersion: present.metadata.resourceVersion });
}

/** The key that signs tokens, where the store has one or is shared. */
export async function sharedTokenKey(store: WritableConfigStore): Promise<KeyObject | undefined> {
  if (store.isShared && !store.get(tokenKeyKey)) {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    await putIfUnchanged(store, secret(tokenKeyKey, "Opaque", { "token-key.pem": pemOf(privateKey) }), { absent: true });
  }
  const found = store.get(tokenKeyKey);
  return found && parsePrivateKey(textOf(found, "token-key.pem"));
}

async function putIfUnchanged(store: WritableConfigStore, object: ConfigObject, precondition: Precondition): Promise<boolean> {
  try {
    await store.put(object, precondition);
    return true;
  } catch (error) {
    if (error instanceof StoreError && (error.code === "exists" || error.code === "conflict")) return false;
    throw error;
  }
}

function secretOf({ certificate, key, roots }: SigningMaterial): ConfigObject {
  const files = { "ca-cert.pem": certificate, "ca-key.pem": pemOf(key), "root-cert.pem": roots.join("") };
  return secret(storedRootKey, "istio.io/ca-root", files);
}

function secret({ kind, name }: SharedKey, type: string, files: Readonly<Record<string, string>>): ConfigObject {
  const data = Object.fromEntries(Object.entries(files).map(([file, text]) => [file, Buffer.from(text).toString("base64")]));
  return decodeObject({ apiVersion: "v1", kind, metadata: { name, namespace }, type, data }).object!;
}

function textOf({ spec }: ConfigObject<Secret>, file: string): string {
  return Buffer.from(spec.data[file] ?? []).toString("utf8");
}

function pemOf(key: KeyObject): string {
  return key.export({ type: "pkcs8", format: "pem" }) as string;
}
