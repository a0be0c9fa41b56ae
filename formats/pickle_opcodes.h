// The opcodes of Python's pickle, with their names for messages.
// Source: CPython, Lib/pickletools.py (protocols 0 to 5).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace quern {

enum PickleOpcode : uint8_t {
  kOpMark = '(', kOpStop = '.', kOpPop = '0', kOpPopMark = '1', kOpDup = '2',
  kOpBinBytes = 'B', kOpShortBinBytes = 'C', kOpFloat = 'F', kOpBinFloat = 'G', kOpInt = 'I',
  kOpBinInt = 'J', kOpBinInt1 = 'K', kOpLong = 'L', kOpBinInt2 = 'M', kOpNone = 'N',
  kOpPersId = 'P', kOpBinPersId = 'Q', kOpReduce = 'R', kOpString = 'S', kOpBinString = 'T',
  kOpShortBinString = 'U', kOpUnicode = 'V', kOpBinUnicode = 'X', kOpEmptyList = ']',
  kOpAppend = 'a', kOpBuild = 'b', kOpGlobal = 'c', kOpDict = 'd', kOpAppends = 'e',
  kOpGet = 'g', kOpBinGet = 'h', kOpInst = 'i', kOpLongBinGet = 'j', kOpList = 'l',
  kOpObj = 'o', kOpPut = 'p', kOpBinPut = 'q', kOpLongBinPut = 'r', kOpSetItem = 's',
  kOpTuple = 't', kOpSetItems = 'u', kOpEmptyDict = '}', kOpEmptyTuple = ')',
  kOpProto = 0x80, kOpNewObj = 0x81, kOpExt1 = 0x82, kOpExt2 = 0x83, kOpExt4 = 0x84,
  kOpTuple1 = 0x85, kOpTuple2 = 0x86, kOpTuple3 = 0x87, kOpNewTrue = 0x88, kOpNewFalse = 0x89,
  kOpLong1 = 0x8A, kOpLong4 = 0x8B, kOpShortBinUnicode = 0x8C, kOpBinUnicode8 = 0x8D,
  kOpBinBytes8 = 0x8E, kOpEmptySet = 0x8F, kOpAddItems = 0x90, kOpFrozenSet = 0x91,
  kOpNewObjEx = 0x92, kOpStackGlobal = 0x93, kOpMemoize = 0x94, kOpFrame = 0x95,
  kOpByteArray8 = 0x96, kOpNextBuffer = 0x97, kOpReadonlyBuffer = 0x98,
};

// Returns the opcode's name as in pickletools ("BINUNICODE"), or nothing for a byte that is none.
constexpr std::string_view PickleOpcodeName(uint8_t opcode) {
  struct Row {
    PickleOpcode opcode;
    std::string_view name;
  };
  constexpr Row kRows[] = {
      {kOpMark, "MARK"}, {kOpStop, "STOP"}, {kOpPop, "POP"}, {kOpPopMark, "POP_MARK"},
      {kOpDup, "DUP"}, {kOpBinBytes, "BINBYTES"}, {kOpShortBinBytes, "SHORT_BINBYTES"},
      {kOpFloat, "FLOAT"}, {kOpBinFloat, "BINFLOAT"}, {kOpInt, "INT"}, {kOpBinInt, "BININT"},
      {kOpBinInt1, "BININT1"}, {kOpLong, "LONG"}, {kOpBinInt2, "BININT2"}, {kOpNone, "NONE"},
      {kOpPersId, "PERSID"}, {kOpBinPersId, "BINPERSID"}, {kOpReduce, "REDUCE"},
      {kOpString, "STRING"}, {kOpBinString, "BINSTRING"}, {kOpShortBinString, "SHORT_BINSTRING"},
      {kOpUnicode, "UNICODE"}, {kOpBinUnicode, "BINUNICODE"}, {kOpEmptyList, "EMPTY_LIST"},
      {kOpAppend, "APPEND"}, {kOpBuild, "BUILD"}, {kOpGlobal, "GLOBAL"}, {kOpDict, "DICT"},
      {kOpAppends, "APPENDS"}, {kOpGet, "GET"}, {kOpBinGet, "BINGET"}, {kOpInst, "INST"},
      {kOpLongBinGet, "LONG_BINGET"}, {kOpList, "LIST"}, {kOpObj, "OBJ"}, {kOpPut, "PUT"},
      {kOpBinPut, "BINPUT"}, {kOpLongBinPut, "LONG_BINPUT"}, {kOpSetItem, "SETITEM"},
      {kOpTuple, "TUPLE"}, {kOpSetItems, "SETITEMS"}, {kOpEmptyDict, "EMPTY_DICT"},
      {kOpEmptyTuple, "EMPTY_TUPLE"}, {kOpProto, "PROTO"}, {kOpNewObj, "NEWOBJ"},
      {kOpExt1, "EXT1"}, {kOpExt2, "EXT2"}, {kOpExt4, "EXT4"}, {kOpTuple1, "TUPLE1"},
      {kOpTuple2, "TUPLE2"}, {kOpTuple3, "TUPLE3"}, {kOpNewTrue, "NEWTRUE"},
      {kOpNewFalse, "NEWFALSE"}, {kOpLong1, "LONG1"}, {kOpLong4, "LONG4"},
      {kOpShortBinUnicode, "SHORT_BINUNICODE"}, {kOpBinUnicode8, "BINUNICODE8"},
      {kOpBinBytes8, "BINBYTES8"}, {kOpEmptySet, "EMPTY_SET"}, {kOpAddItems, "ADDITEMS"},
      {kOpFrozenSet, "FROZENSET"}, {kOpNewObjEx, "NEWOBJ_EX"}, {kOpStackGlobal, "STACK_GLOBAL"},
      {kOpMemoize, "MEMOIZE"}, {kOpFrame, "FRAME"}, {kOpByteArray8, "BYTEARRAY8"},
      {kOpNextBuffer, "NEXT_BUFFER"}, {kOpReadonlyBuffer, "READONLY_BUFFER"},
  };
  for (const Row& row : kRows) {
    if (row.opcode == opcode) return row.name;
  }
  return {};
}

}  // namespace quern
