// Names, each once: places in a text and no copies, so that 100,000 of them are no allocations.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace weightcast {

class NameSet {
 public:
  /// @param most names that will be added
  explicit NameSet(std::size_t most) : slots_(std::bit_ceil(most + most / 4 + 1)) {}

  /// False when the name is there already, or when the text makes hashes collide. The name's bytes must stay.
  bool add(std::string_view name) {
    const std::size_t hash = std::hash<std::string_view>{}(name);
    for (std::size_t slot = hash & (slots_.size() - 1);; slot = (slot + 1) & (slots_.size() - 1)) {
      Slot& found = slots_[slot];
      if (found.name.data() == nullptr) {
        found = {hash, name};
        count_ += 1;
        return true;
      }
      if (found.hash == hash && found.name == name) return false;
      probes_ += 1;
      if (probes_ > kFreeProbes + kProbesPerName * count_) return false;
    }
  }

 private:
  struct Slot {
    std::size_t hash;
    std::string_view name;
  };
  static constexpr std::size_t kFreeProbes = 4096;
  static constexpr std::size_t kProbesPerName = 8;

  std::vector<Slot> slots_;
  std::size_t count_ = 0;
  std::size_t probes_ = 0;
};

}  // namespace weightcast
