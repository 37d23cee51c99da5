/** Argon2id in PHC format. Both take tens of milliseconds and run outside the event loop. */
export interface PasswordHasher {
  hash(secret: string): Promise<string>;
  /** False also when the stored text is not a PHC string that this hasher knows. */
  verify(stored: string, secret: string): Promise<boolean>;
}
