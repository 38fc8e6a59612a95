/** From the least to the most; each may do all that the ones before it may. Testers approve, operators run environments, admins give access. */
export const ROLES = ["viewer", "developer", "tester", "operator", "admin"] as const;
export type Role = (typeof ROLES)[number];

/** Who is asking. `app` confines the token to one app. */
export type Identity = {
  tokenId: string;
  name: string;
  role: Role;
  app: string | null;
  /** Set for the token of an infra run: it opens only what such a run needs, and where it may not write, only reading that. */
  run?: { mayWrite: boolean };
};

export function mayActAs(identity: Identity, needed: Role, app?: string): boolean {
  const inScope = identity.app === null || identity.app === app;
  return inScope && ROLES.indexOf(identity.role) >= ROLES.indexOf(needed);
}
