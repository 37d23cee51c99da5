import { createCacheActors } from "#core/http/cache-actors.ts";
import { createCacheSurface } from "#core/http/cache-surface.ts";
import { clientAddress } from "#core/http/client-address.ts";
import { systemClock } from "#core/lib/clock.ts";
import { systemRandom } from "#core/lib/ids.ts";
import type { Logger } from "#core/ports/logger.ts";
import { lookUpRealisation } from "#core/services/cache-realisation.ts";
import { createSecretKeys } from "#core/services/cache-sign.ts";
import { UploadPlaces } from "#core/services/cache-upload-places.ts";
import { createPathUses } from "#core/services/cache-uses.ts";
import type { ServiceDeps, ServiceSettings } from "#core/services/deps.ts";
import { NarListings } from "#core/services/nar-listings.ts";
import { createNarProofs } from "#core/services/nar-proofs.ts";
import { createSecretBox } from "#core/services/secret-box.ts";
import { type AppDeps, createApp } from "#handlers/app.ts";
import { VERSION } from "#runtime/common/version.ts";
import { zlibCodec } from "#runtime/common/zlib-codec.ts";
import { openRequestDatabase } from "./database.ts";
import { workersHasher } from "./hasher.ts";
import { notHere } from "./not-here.ts";
import { createRequestNotifier } from "./notifier.ts";
import { openR2BlobStore } from "./r2-blob-store.ts";
import type { Settings } from "./settings.ts";

export interface Composition {
  readonly answerCache: (request: Request) => Promise<Response | null>;
  readonly answerApi: (request: Request) => Promise<Response>;
  /** Writes down what the request leaves behind and lets go of its connections. It never rejects. */
  readonly end: () => Promise<void>;
}

/**
 * Puts bindings under the services for one request. Workers let no request use the sockets of another, and nothing
 * would tell an isolate that what it remembers has changed; so nothing is shared.
 */
export async function compose(settings: Settings, log: Logger): Promise<Composition> {
  const db = openRequestDatabase(settings.databaseUrl);
  const notifier = createRequestNotifier(db, log);
  const proofs = createNarProofs({ db, clock: systemClock });
  const common = {
    ...{ db, log, notifier, proofs },
    clock: systemClock,
    random: systemRandom,
    hasher: workersHasher,
    codec: zlibCodec,
    blobs: openR2BlobStore(settings.bucket, { prefix: settings.prefix }),
    settings: serviceSettings(settings),
  };
  const uses = createPathUses(common);
  const secrets = settings.cryptSecret && (await createSecretBox(settings.cryptSecret));
  const secretKeyOf = secrets && createSecretKeys(secrets);
  const surface = createCacheSurface({
    ...common,
    ...createCacheActors(common, addressOf),
    uses,
    remembers: false,
    listings: new NarListings(common),
    instance: common.settings,
    ...(secretKeyOf && {
      realisation: (cache, { derivation, output }) =>
        lookUpRealisation({ db, secretKeyOf }, cache.id, { hash: derivation.slice("sha256:".length), output }),
    }),
  });
  return {
    answerCache: surface,
    answerApi: async (request) => await createApp(appDeps(common, settings)).fetch(request),
    async end() {
      try {
        await Promise.all([uses.flush(), proofs.flush(), notifier.flush()]);
      } catch (error) {
        log.warn("what was read could not be written down", { error });
      }
      await db.destroy().catch((error: unknown) => log.warn("a database connection did not end well", { error }));
    },
  };
}

type Common = Omit<ServiceDeps, "passwords" | "secrets"> & Pick<AppDeps, "blobs" | "codec" | "hasher">;

/** Reading takes none of what is not here. */
function appDeps(common: Common, { serveUrl }: Settings): AppDeps {
  const absent = <T extends object>(part: string): T => notHere<T>(part, serveUrl);
  return {
    ...common,
    passwords: absent("Signing in"),
    secrets: absent("What is sealed in the database"),
    secretKeyOf: absent("Signing"),
    git: absent("Git"),
    control: absent("The scheduler"),
    upstreams: absent("What only upstream caches have"),
    outbound: absent("What only upstream caches have"),
    actions: absent("Actions"),
    oidc: null,
    projects: absent("Changing projects"),
    retention: absent("Retention"),
    uploadPlaces: new UploadPlaces(),
    narUploadBytesMax: 0,
    sourceBytesMax: 0,
    http: {
      requestBytesMax: 0,
      trustedProxies: [],
      recordsDenials: false,
      peerAddress: (c) => addressOf(c.req.raw),
    },
  };
}

/** Nobody registers or makes anything here. */
function serviceSettings({ serveUrl, jwtSecret }: Settings): ServiceSettings {
  const gates = { createOrganization: "none", createCache: "none" } as const;
  const off = { registrationEnabled: false, mail: null, oidc: null, ...gates };
  const secureCookie = serveUrl.startsWith("https:");
  return { version: VERSION, serveUrl, frontendUrl: serveUrl, secureCookie, jwtSecret, ...off };
}

/** Cloudflare says who is there, and lets no client say it. */
function addressOf(request: Request): string {
  return clientAddress(request.headers.get("cf-connecting-ip") ?? "unknown", null, []);
}
