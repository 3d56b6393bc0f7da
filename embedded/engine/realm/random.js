/* Numbers that follow from seeds: sfc32, which is small, fast, and passes the usual tests of randomness. */
(function makeRandom() {
  "use strict";

  let a = 0;
  let b = 0;
  let c = 0;
  let counter = 1;
  function random32() {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }
  function seed(first, second, third) {
    a = first | 0;
    b = second | 0;
    c = third | 0;
    counter = 1;
    for (let round = 0; round < 12; round++) random32();
  }
  const random = () => (random32() * 0x200000 + (random32() >>> 11)) / 2 ** 53;

  return { random, random32, seed };
});
