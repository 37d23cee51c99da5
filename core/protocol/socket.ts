/** A message-oriented, ordered, reliable connection: a WebSocket, or its twin in a simulation. */
export interface Socket {
  /**
   * Resolves when the data has left this process, so that at most one message waits here. Rejects once it is closed.
   */
  send(data: string | Uint8Array): Promise<void>;
  /** The same for several at once, in their order, where that costs less. */
  sendAll?(messages: readonly (string | Uint8Array)[]): Promise<void>;
  /** Ends the connection. `onClose` follows, also when the peer does not answer. */
  close(code: number, reason: string): void;
  onMessage: (data: string | Uint8Array) => void;
  /** Called once. */
  onClose: (reason: string) => void;
}
