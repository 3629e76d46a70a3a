// The quick way through a safetensors header takes what is plain and leaves all else alone.
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/header_scan.h"
#include "core/name_set.h"
#include "core_check.h"

namespace {

using namespace weightcast;

const std::vector<HeaderDtype> kDtypes = {{"F4", 4}, {"BF16", 16}, {"F32", 32}};

/// The bytes stand alone in memory, so that a sanitizer sees a read beyond them.
std::optional<HeaderColumns> scan(const std::string& json, std::uint64_t data_bytes, std::size_t from = 0) {
  const auto alone = std::make_unique<char[]>(json.size());
  std::memcpy(alone.get(), json.data(), json.size());
  const std::atomic<bool> stop{false};
  return scan_header({{alone.get(), json.size()}, from, data_bytes}, kDtypes, stop);
}

const std::string kPlain =
    R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
    R"("b.weight":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
    R"("e":{"dtype":"BF16","shape":[0,9],"data_offsets":[16,16]}})";
constexpr std::uint64_t kPlainBytes = 16;

void takes_the_plain_form() {
  const auto columns = scan(kPlain + "  ", kPlainBytes);
  CORE_CHECK(columns.has_value());
  CORE_CHECK(std::string(columns->names.begin(), columns->names.end()) == "ab.weighte");
  CORE_CHECK((columns->name_ends == std::vector<std::uint32_t>{1, 9, 10}));
  CORE_CHECK((columns->dtypes == std::vector<std::uint8_t>{2, 1, 1}));
  CORE_CHECK((columns->dimensions == std::vector<double>{2, 3, 0, 9}));
  CORE_CHECK((columns->dimension_ends == std::vector<std::uint32_t>{0, 2, 4}));
  CORE_CHECK((columns->begins == std::vector<double>{0, 4, 16}));
  CORE_CHECK((columns->ends == std::vector<double>{4, 16, 16}));
  CORE_CHECK(scan(R"({"__metadata__":{},)" + kPlain.substr(1), kPlainBytes, 18).has_value());
}

std::string one(const char* dtype, const char* shape, const char* offsets) {
  return std::string(R"({"a":{"dtype":")") + dtype + R"(","shape":[)" + shape + R"(],"data_offsets":[)" +
         offsets + "]}}";
}

void leaves_all_else() {
  CORE_CHECK(scan(one("F4", "3,2", "0,3"), 3).has_value());
  CORE_CHECK(!scan(one("F4", "3", "0,1"), 1));        // no whole bytes
  CORE_CHECK(!scan(one("F64", "1", "0,8"), 8));       // not in the list
  CORE_CHECK(!scan(one("F32", "1", "0,8"), 8));       // more bytes than the shape
  CORE_CHECK(!scan(one("F32", "1", "0,4"), 5));       // bytes left over
  CORE_CHECK(!scan(one("F32", "1", "4,8"), 8));       // a hole
  CORE_CHECK(!scan(one("F32", "0", "4,0"), 4));       // backwards
  CORE_CHECK(!scan(one("F32", "01", "0,4"), 4));
  CORE_CHECK(!scan(one("F32", "1,", "0,4"), 4));
  CORE_CHECK(!scan(one("F32", "-1", "0,4"), 4));
  CORE_CHECK(!scan(one("F32", "1.0", "0,4"), 4));
  CORE_CHECK(!scan(one("F32", "1", " 0,4"), 4));
  CORE_CHECK(!scan(one("F32", "999999999999999,999999999999999,0", "0,0"), 0));
  CORE_CHECK(!scan(one("F32", "1000000000000000", "0,4000000000000000"), 4'000'000'000'000'000));
  std::string many = "1";
  for (int i = 0; i < 64; ++i) many += ",1";
  CORE_CHECK(!scan(one("F32", many.c_str(), "0,4"), 4));
  for (const char* name : {"__metadata__", "a\\u0062", "a\nb", "b.weight"}) {
    const auto again = "{\"" + std::string(name) + R"(":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)" +
                       R"("b.weight":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]}})";
    CORE_CHECK(!scan(again, kPlainBytes));
  }
  CORE_CHECK(!scan(kPlain + "\n", kPlainBytes));
  CORE_CHECK(!scan("{}", 0) && !scan("", 0) && !scan(kPlain, kPlainBytes, kPlain.size() + 1));
}

void reads_no_byte_beyond() {
  for (std::size_t length = 0; length < kPlain.size(); ++length) {
    CORE_CHECK(!scan(kPlain.substr(0, length), kPlainBytes));
  }
}

void ends_at_a_stop() {
  const std::atomic<bool> stop{true};
  CORE_CHECK(!scan_header({kPlain, 0, kPlainBytes}, kDtypes, stop));
}

/// A hostile file makes all names fall into the same places of the table: that is given up.
void gives_up_on_colliding_names() {
  std::vector<std::string> names;
  for (int i = 0; names.size() < 1500; ++i) {
    auto name = "n" + std::to_string(i);
    if ((std::hash<std::string_view>{}(name) & 4095) < 64) names.push_back(std::move(name));
  }
  NameSet set(3000);
  std::size_t added = 0;
  while (added < names.size() && set.add(names[added])) added += 1;
  CORE_CHECK(added > 64 && added < names.size());
}

}  // namespace

int main() {
  takes_the_plain_form();
  leaves_all_else();
  reads_no_byte_beyond();
  ends_at_a_stop();
  gives_up_on_colliding_names();
  return 0;
}
