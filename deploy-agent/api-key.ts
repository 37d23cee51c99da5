import { readFileSync, statSync } from "node:fs";

/** The file with the API key cannot be used. */
export class KeyFileError extends Error {
  override readonly name = "KeyFileError";
}

const KEY_BYTES_MAX = 1_024;

/** The key without space around it, such as the newline that editors leave. Throws `KeyFileError`. */
export function readApiKey(path: string): { readonly apiKey: string; readonly warnings: readonly string[] } {
  try {
    const status = statSync(path);
    const { mode, size } = status;
    // Reading a pipe would wait for who may never write.
    if (!status.isFile()) throw new KeyFileError(`the API key file ${path} is no regular file`);
    if (size > KEY_BYTES_MAX) throw new KeyFileError(`the API key file ${path} holds more than a key`);
    const apiKey = readFileSync(path, "utf8").trim();
    if (!/^[!-~]{8,512}$/.test(apiKey)) {
      throw new KeyFileError(`the API key file ${path} should hold one key, such as GRAD..., and nothing else`);
    }
    const isOpen = (mode & 0o077) !== 0;
    const octal = (mode & 0o777).toString(8).padStart(3, "0");
    return {
      apiKey,
      warnings: isOpen ? [`others can reach the API key file ${path} (mode ${octal}): chmod 600 it`] : [],
    };
  } catch (error) {
    if (error instanceof KeyFileError) throw error;
    throw new KeyFileError(`the API key file ${path} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}
