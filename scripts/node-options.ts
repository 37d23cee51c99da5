/**
 * Options of Node that server and worker run with.
 *
 * A young generation of 4 MiB: what is collected sooner are the chunks of bodies that pass through, whose memory is not
 * V8's own. The worker needs up to 170 MB for an output of 2 GB; with 8 MiB it is 230 MB, and with 2 MiB collecting
 * twice as often takes a tenth of the server's time where builds are short.
 *
 * An old generation of 1 GB at most: ten times what the largest graphs need. The smaller this is, the less garbage V8
 * lets grow beside what is in use: three times as much by itself, as much below 2 GiB, 0.6 times as much with 1 GB.
 * Measured on 100,000 builds: a peak of 255 MB with 2 GB and of 236 MB with 1 GB. The collections of the whole heap
 * that this adds are some 7 ms each, a few in ten seconds.
 *
 * One thread besides the main one that looks for garbage and compiles: it has less than half of a processor to do. With
 * four, as by itself, on a machine with one processor they took four fifths of it for as long as they looked, and a
 * narinfo in a hundred waited for 7 to 34 ms instead of 5 to 14.
 *
 * No object starts in the old generation because others of its line of code have lived long (allocation sites). When
 * the first clients come many at once, their requests live longer than others, V8 takes that for how requests are, and
 * a process is slow for the rest of its life: 33,000 to 36,000 narinfos a second instead of 43,000 to 48,000.
 *
 * Not taken: `--heap-growing-percent=50`. Beside the last option a narinfo in a hundred waited as long with it (twelve
 * runs of each in turn, on one processor), and without that a hostile derivation took more (608 to 628 MiB).
 */
export const SERVICE_OPTIONS: readonly string[] = [
  "--max-semi-space-size=4",
  "--max-old-space-size=1000",
  "--v8-pool-size=1",
  "--no-allocation-site-pretenuring",
];
