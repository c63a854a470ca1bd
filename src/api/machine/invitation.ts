/**
 * One-time codes by which machines join: `ID.SECRET`. The control plane keeps what it needs to judge them, and not the code: a key that
 * shows the machine that the right control plane answers, and a hash that the machine's own proof has to have.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";

export interface InvitationCode {
  readonly id: string;
  readonly secret: Buffer;
}

/** What is kept, in a Secret of the control plane's namespace. */
export interface Invitation {
  readonly id: string;
  /** WorkloadGroup. */
  readonly namespace: string;
  readonly group: string;
  readonly expiresAt: Date;
  readonly macKey: Buffer;
  readonly proofHash: Buffer;
}

export const invitationSecretType = "topsail.io/invitation";

export function invitationSecretName(id: string): string {
  return `invitation-${id}`;
}

export function newCode(): InvitationCode {
  return { id: randomBytes(8).toString("hex"), secret: randomBytes(24) };
}

export function formatCode({ id, secret }: InvitationCode): string {
  return `${id}.${secret.toString("base64url")}`;
}

/** undefined for what can't be a code. */
export function parseCode(text: string): InvitationCode | undefined {
  const match = /^(?<id>[0-9a-f]{16})\.(?<secret>[A-Za-z0-9_-]{32})$/.exec(text.trim());
  return match ? { id: match.groups!.id!, secret: Buffer.from(match.groups!.secret!, "base64url") } : undefined;
}

/** By which the control plane shows that it knows the code. */
export function macKeyOf({ secret }: InvitationCode): Buffer {
  return createHmac("sha256", secret).update("root").digest();
}

/** By which the machine shows that it has the code. */
export function proofOf({ secret }: InvitationCode): Buffer {
  return createHmac("sha256", secret).update("join").digest();
}

export function hashOfProof(proof: Uint8Array): Buffer {
  return createHash("sha256").update(proof).digest();
}

export function macOfRoots(macKey: Uint8Array, roots: string): Buffer {
  return createHmac("sha256", macKey).update(roots).digest();
}

export function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** As a Kubernetes Secret. */
export function invitationSecret(code: InvitationCode, to: Pick<Invitation, "namespace" | "group" | "expiresAt">, systemNamespace: string) {
  const base64 = (content: string | Buffer) => Buffer.from(content).toString("base64");
  return {
    apiVersion: "v1",
    kind: "Secret",
    type: invitationSecretType,
    metadata: { name: invitationSecretName(code.id), namespace: systemNamespace },
    data: {
      namespace: base64(to.namespace),
      group: base64(to.group),
      expiresAt: base64(to.expiresAt.toISOString()),
      macKey: base64(macKeyOf(code)),
      proofHash: base64(hashOfProof(proofOf(code))),
    },
  };
}

/** undefined when it is no invitation. */
export function readInvitation(id: string, data: Readonly<Record<string, Uint8Array>>): Invitation | undefined {
  const content = (field: string) => Buffer.from(data[field] ?? []);
  const expiresAt = new Date(content("expiresAt").toString("utf8"));
  const [macKey, proofHash] = [content("macKey"), content("proofHash")];
  const [namespace, group] = [content("namespace").toString("utf8"), content("group").toString("utf8")];
  if (Number.isNaN(expiresAt.getTime()) || macKey.length !== 32 || proofHash.length !== 32 || !namespace || !group) return undefined;
  return { id, namespace, group, expiresAt, macKey, proofHash };
}
