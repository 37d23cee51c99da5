import { lookup as lookUpName } from "node:dns/promises";
import { isIP } from "node:net";
import { mayConnectTo, type OutboundRules } from "#core/domain/outbound-address.ts";

/** No connection may be opened to this host, or it has no address. The message says why and what to do. */
export class AddressRefusedError extends Error {
  override readonly name = "AddressRefusedError";
}

const ADDRESSES_SHOWN_MAX = 4;

/**
 * The addresses of a host (a name, or an address without brackets) that the rules let us connect to, at least one.
 * Whoever connects must use one of these and not ask again: a name can lead elsewhere a moment later.
 * Throws `AddressRefusedError`.
 */
export async function reachableAddresses(host: string, rules: OutboundRules): Promise<readonly string[]> {
  const addresses = isIP(host) === 0 ? await lookUp(host) : [host];
  const allowed = addresses.filter((address) => mayConnectTo(address, rules));
  if (allowed.length > 0) return allowed;
  const shown = addresses.slice(0, ADDRESSES_SHOWN_MAX).join(", ");
  throw new AddressRefusedError(
    `${host} is the local or reserved address ${shown}: this server connects there only when GRADIENT_OUTBOUND_ALLOW ` +
      "lists it",
  );
}

async function lookUp(name: string): Promise<string[]> {
  try {
    const found = await lookUpName(name, { all: true });
    return found.map(({ address }) => address);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new AddressRefusedError(`Could not resolve host: ${name} (${code ?? message})`, { cause: error });
  }
}
