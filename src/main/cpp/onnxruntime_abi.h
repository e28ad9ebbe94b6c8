// The part of ONNX Runtime's C ABI that a custom operator library of ours needs.
//
// Declared here because the runtime's own headers come with its C++ release only, and the library
// must build without it. That ABI is stable: the runtime hands out a table of function pointers
// whose slots are appended to and never change, and it reads as many members of OrtCustomOp as the
// version that the operator states has. We state version 17 everywhere: from 18 on the runtime
// reads members that are not declared here, up to 14 it knows no CreateKernelV2.
#pragma once

#include <cstddef>
#include <cstdint>

namespace taco4j::ort {

// Opaque: only pointers to them are passed around.
struct OrtStatus;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtValue;
struct OrtTensorTypeAndShapeInfo;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtShapeInferContext;

constexpr std::uint32_t kApiVersion = 17;

// OrtErrorCode
constexpr int kFail = 1;
constexpr int kInvalidArgument = 2;

// ONNXTensorElementDataType
constexpr int kFloat = 1;
constexpr int kUint8 = 2;
constexpr int kInt8 = 3;
constexpr int kInt32 = 6;

// OrtCustomOpInputOutputCharacteristic
constexpr int kRequired = 0;

// OrtMemType
constexpr int kDefaultMemory = 0;

// The table. A slot's number and its signature below are the whole of what is known about it.
struct OrtApi {
  void* slots[275];
};

struct OrtApiBase {
  const OrtApi* (*GetApi)(std::uint32_t version);  // null for a version it does not know
  const char* (*GetVersionString)();
};

// A function of the table. A status that is not null is an error, and the caller's to release.
template <std::size_t slot, typename Signature>
struct Function;

template <std::size_t slot, typename Result, typename... Arguments>
struct Function<slot, Result(Arguments...)> {
  Result operator()(const OrtApi* api, Arguments... arguments) const {
    static_assert(slot < sizeof(OrtApi::slots) / sizeof(void*));
    return reinterpret_cast<Result (*)(Arguments...)>(api->slots[slot])(arguments...);
  }
};

// clang-format off
constexpr Function<0, OrtStatus*(int code, const char* message)> CreateStatus;
constexpr Function<26, OrtStatus*(const char* name, OrtCustomOpDomain**)> CreateCustomOpDomain;
constexpr Function<27, OrtStatus*(OrtCustomOpDomain*, const struct OrtCustomOp*)> CustomOpDomain_Add;
constexpr Function<28, OrtStatus*(OrtSessionOptions*, OrtCustomOpDomain*)> AddCustomOpDomain;
constexpr Function<51, OrtStatus*(OrtValue*, void** data)> GetTensorMutableData;
constexpr Function<61, OrtStatus*(const OrtTensorTypeAndShapeInfo*, std::size_t* count)> GetDimensionsCount;
constexpr Function<62, OrtStatus*(const OrtTensorTypeAndShapeInfo*, std::int64_t* dims, std::size_t count)> GetDimensions;
constexpr Function<65, OrtStatus*(const OrtValue*, OrtTensorTypeAndShapeInfo**)> GetTensorTypeAndShape;
constexpr Function<85, OrtStatus*(const OrtKernelInfo*, const char* name, float*)> KernelInfoGetAttribute_float;
constexpr Function<86, OrtStatus*(const OrtKernelInfo*, const char* name, std::int64_t*)> KernelInfoGetAttribute_int64;
constexpr Function<90, OrtStatus*(const OrtKernelContext*, std::size_t index, const OrtValue**)> KernelContext_GetInput;
constexpr Function<91, OrtStatus*(OrtKernelContext*, std::size_t index, const std::int64_t* dims, std::size_t count, OrtValue**)> KernelContext_GetOutput;
constexpr Function<93, void(OrtStatus*)> ReleaseStatus;
constexpr Function<99, void(OrtTensorTypeAndShapeInfo*)> ReleaseTensorTypeAndShapeInfo;
// With data null: the count, and no error. With data: an error where count is less than there are.
constexpr Function<163, OrtStatus*(const OrtKernelInfo*, const char* name, std::int64_t* data, std::size_t* count)> KernelInfoGetAttributeArray_int64;
// With data null: the size with the terminating 0.
constexpr Function<244, OrtStatus*(const OrtKernelInfo*, char* data, std::size_t* size)> KernelInfo_GetNodeName;
constexpr Function<249, OrtStatus*(const OrtKernelInfo*, std::size_t index, int* is_constant, const OrtValue**)> KernelInfoGetConstantInput_tensor;
// batches: into how many pieces to cut; 0 lets the runtime decide.
constexpr Function<274, OrtStatus*(const OrtKernelContext*, void (*body)(void* user, std::size_t index), std::size_t count, std::size_t batches, void* user)> KernelContext_ParallelFor;
// clang-format on

// What an operator is, version 17. The runtime keeps the pointer: objects live as long as the
// process. All members are called, so all are filled, those about variadic inputs included.
struct OrtCustomOp {
  std::uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);  // null: V2
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);  // null result: CPU
  int (*GetInputType)(const OrtCustomOp*, std::size_t index);
  std::size_t (*GetInputTypeCount)(const OrtCustomOp*);
  int (*GetOutputType)(const OrtCustomOp*, std::size_t index);
  std::size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void* kernel, OrtKernelContext*);  // null: V2
  void (*KernelDestroy)(void* kernel);
  int (*GetInputCharacteristic)(const OrtCustomOp*, std::size_t index);
  int (*GetOutputCharacteristic)(const OrtCustomOp*, std::size_t index);
  int (*GetInputMemoryType)(const OrtCustomOp*, std::size_t index);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*,
                               void** kernel);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);  // null: none
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
};
static_assert(sizeof(void*) != 8 || sizeof(OrtCustomOp) == 176);

}  // namespace taco4j::ort
