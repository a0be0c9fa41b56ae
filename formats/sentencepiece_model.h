// SentencePiece's tokenizer.model, read field by field (no generated parser: a hostile file would
// cost it 27 bytes of objects per byte).
// Source: sentencepiece_model.proto of google/sentencepiece.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "formats/core/bytes.h"
#include "formats/core/tokenizer.h"

namespace quern {

enum class SentencePieceAlgorithm : int32_t { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };

// The whole model, as far as tokenizing needs it; defaults are those of the proto.
struct SentencePieceModel {
  // Pieces, scores, types and ids, as a Tokenizer of kind kSentencePiece. Special ids are set only
  // where they name a piece of the model.
  Tokenizer tokenizer;

  // TrainerSpec
  SentencePieceAlgorithm algorithm = SentencePieceAlgorithm::kUnigram;
  bool treat_whitespace_as_suffix = false;
  bool byte_fallback = false;
  int32_t unk_id = 0, bos_id = 1, eos_id = 2, pad_id = -1;

  // NormalizerSpec
  std::string normalizer_name;
  uint64_t charsmap_bytes = 0;  // of precompiled_charsmap
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

// Returns the byte that a piece such as "<0x0A>" stands for, or nothing for other texts.
std::optional<uint8_t> ByteOfPiece(std::string_view text);

// Returns true if `head`, the first bytes of a file, begins with a SentencePiece piece.
bool LooksLikeSentencePiece(ByteView head);

// Returns the model in `bytes`.
// Throws: Error kData "protobuf.truncated", "protobuf.depth", "protobuf.tag", "protobuf.wire-type",
// "spm.no-pieces", "spm.piece-count", "spm.piece-length", "spm.duplicate-piece", "spm.piece-type",
// "spm.piece-text", "spm.score", "spm.unknown-piece", "spm.byte-piece", "spm.special-id",
// "spm.charsmap", "text.utf8"; kUnsupported "spm.limit".
// Cost: memory of the size of `bytes` and 64 MiB.
SentencePieceModel ParseSentencePieceModel(ByteView bytes, std::string_view file);

// Checks that the model tokenizes as Llama's do: BPE by score with byte fallback, no normalizer.
// (remove_extra_whitespaces may be set: llama.cpp does not honour it for these models, nor does
// quern, and real models have it by default.)
// Throws: Error kUnsupported "spm.algorithm", "spm.normalizer", "spm.byte-fallback", naming the
// setting.
void RequireLlamaTokenizer(const SentencePieceModel& model, std::string_view file);

// Returns the tokenizer of a model that tokenizes as Llama's do.
// Throws: as the two above.
Tokenizer ReadSentencePieceModel(ByteView bytes, std::string_view file);

}  // namespace quern
