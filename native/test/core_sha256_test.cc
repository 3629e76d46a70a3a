// The accelerated SHA-256 equals the portable one, and both equal FIPS 180-4's examples.
#include <cstdint>
#include <string>
#include <vector>

#include "core/sha256.h"
#include "core_check.h"

namespace {

using weightcast::Digest;
using weightcast::Sha256;

std::string hex(const Digest& digest) {
  std::string text;
  for (const auto byte : digest) {
    char pair[3];
    std::snprintf(pair, sizeof pair, "%02x", byte);
    text += pair;
  }
  return text;
}

Digest hash(Sha256::Compress compress, const std::vector<std::uint8_t>& bytes, std::size_t step) {
  Sha256 state(compress);
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    state.update(bytes.data() + at, std::min(step, bytes.size() - at));
  }
  return state.finish();
}

void check_examples(Sha256::Compress compress) {
  const std::string abc = "abc";
  Sha256 one(compress);
  one.update(abc.data(), abc.size());
  CORE_CHECK(hex(one.finish()) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  Sha256 two(compress);
  two.update(two_blocks.data(), two_blocks.size());
  CORE_CHECK(hex(two.finish()) == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CORE_CHECK(hex(Sha256(compress).finish()) ==
             "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/// Two streams that are fed together, in steps that leave them at and off a block's boundary.
void check_both(const std::vector<std::uint8_t>& bytes) {
  for (const std::size_t step : {1, 63, 64, 65, 128, 1000}) {
    for (const std::size_t lead : {0, 1, 64}) {
      Sha256 a, b;
      a.update(bytes.data(), lead);
      for (std::size_t at = 0; lead + at < bytes.size(); at += step) {
        const auto take = std::min(step, bytes.size() - lead - at);
        Sha256::update_both(a, bytes.data() + lead + at, b, bytes.data() + at, take);
      }
      b.update(bytes.data() + bytes.size() - lead, lead);
      const auto expected = hex(hash(Sha256::portable(), bytes, 1000));
      CORE_CHECK(hex(a.finish()) == expected);
      CORE_CHECK(hex(b.finish()) == expected);
    }
  }
}

}  // namespace

int main() {
  check_examples(Sha256::portable());
  const auto accelerated = Sha256::accelerated();
  if (accelerated == nullptr) {
    std::puts("this processor has no SHA instructions: only the portable code was checked");
    return 0;
  }
  check_examples(accelerated);
  std::vector<std::uint8_t> bytes;
  std::uint32_t random = 1;
  for (std::size_t length = 0; length < 700; ++length) {
    for (const std::size_t step : {1, 63, 64, 65, 1000}) {
      CORE_CHECK(hash(accelerated, bytes, step) == hash(Sha256::portable(), bytes, 1000));
    }
    if (length >= 64) check_both(bytes);
    random = random * 1664525 + 1013904223;
    bytes.push_back(std::uint8_t(random >> 24));
  }
  return 0;
}
