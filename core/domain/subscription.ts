/** How an organization uses a cache. The numbers are those of the database. */
export const SubscriptionMode = { ReadWrite: 0, ReadOnly: 1, WriteOnly: 2 } as const;
export type SubscriptionMode = (typeof SubscriptionMode)[keyof typeof SubscriptionMode];
export type SubscriptionModeName = keyof typeof SubscriptionMode;

/** The name of a mode, as the API writes it. Throws for a number that no mode has: rows cannot hold one. */
export function subscriptionModeName(mode: number): SubscriptionModeName {
  for (const [name, value] of Object.entries(SubscriptionMode)) {
    if (value === mode) return name as SubscriptionModeName;
  }
  throw new RangeError(`no subscription mode has the number ${mode}`);
}
