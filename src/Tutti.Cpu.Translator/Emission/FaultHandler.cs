using Tutti.Host;

namespace Tutti.Cpu.Translator;

/// <summary>
/// Machine code that handles SIGSEGV and SIGBUS: a fault in a vCPU's code region goes on at <see cref="ExitState.FaultExit"/>, everything else at the handler
/// that was there before.
/// </summary>
internal static unsafe class FaultHandler
{
    /// <summary>Code regions at a time.</summary>
    private const int MaxRegions = 1024;

    // Of ucontext_t on x86-64 Linux: the general registers, error code and vector in uc_mcontext.
    private const int ContextRsp = 0xA0;
    private const int ContextRip = 0xA8;
    private const int ContextError = 0xC0;
    private const int ContextVector = 0xC8;

    /// <summary>Of siginfo_t.</summary>
    private const int FaultAddress = 16;

    private static readonly Lock s_lock = new();
    private static readonly HostMapping s_regions = new(16 * (MaxRegions + 1));
    private static readonly List<ExecutableMapping> s_code = [];

    /// <summary>Lets faults of a region's code be handled; false where there is no room for one more.</summary>
    /// <exception cref="HostException">The host refuses.</exception>
    public static bool TryAdd(long start, long length)
    {
        lock (s_lock)
        {
            FaultRedirection.Install(Emit);

            // SAFETY: the mapping has room for the count and MaxRegions pairs. A pair is whole before the handler can see it by the count.
            ulong* pairs = (ulong*)s_regions.Address;
            ulong count = pairs[0];
            ulong place = 0;
            while (place < count && pairs[(2 * place) + 3] != 0)
            {
                place++;
            }

            if (place == MaxRegions)
            {
                return false;
            }

            pairs[(2 * place) + 2] = (ulong)start;
            Volatile.Write(ref pairs[(2 * place) + 3], (ulong)length);
            Volatile.Write(ref pairs[0], Math.Max(count, place + 1));
            return true;
        }
    }

    /// <summary>No thread runs code of the region any more.</summary>
    public static void Remove(long start)
    {
        lock (s_lock)
        {
            ulong* pairs = (ulong*)s_regions.Address;
            for (ulong place = 0; place < pairs[0]; place++)
            {
                if (pairs[(2 * place) + 2] == (ulong)start)
                {
                    Volatile.Write(ref pairs[(2 * place) + 3], 0);
                }
            }
        }
    }

    private static nint Emit(nint before)
    {
        var code = new ExecutableMapping(4096);
        s_code.Add(code);
        var emit = new Emitter();
        emit.Begin((byte*)code.WriteAddress, code.ExecuteAddress);

        // void handler(int signal: EDI, siginfo_t*: RSI, ucontext_t*: RDX). RAX: where; RCX: places left; R8: before the next pair.
        Load(emit, 0, 2, ContextRip);
        emit.Bytes([0x49, 0xB8]); // MOV R8, imm64
        Int64(emit, s_regions.Address);
        emit.Bytes([0x49, 0x8B, 0x08]); // MOV RCX, [R8]
        long next = emit.Here;
        emit.Bytes([0x48, 0x83, 0xE9, 1]); // SUB RCX, 1
        long none = emit.JumpIfLater(2);
        emit.Bytes([0x49, 0x83, 0xC0, 16]); // ADD R8, 16
        emit.Bytes([0x49, 0x89, 0xC1]); // MOV R9, RAX
        emit.Bytes([0x4D, 0x2B, 0x08]); // SUB R9, [R8]
        emit.Bytes([0x4D, 0x3B, 0x48, 8]); // CMP R9, [R8+8]
        emit.Patch(emit.JumpIfLater(3), next);

        // Translated code has the state's address in RSP, a multiple of 64 but for the bias; a routine that it has called has not, and never faults.
        Load(emit, 1, 2, ContextRsp);
        emit.Lea(1, 1, -StateLayout.Bias);
        emit.Bytes([0xF6, 0xC1, 63]); // TEST CL, 63
        long other = emit.JumpIfLater(5);
        Store(emit, 1, StateLayout.FaultRip, 0);
        Pass(emit, 6, FaultAddress, StateLayout.FaultAddress);
        Pass(emit, 2, ContextError, StateLayout.FaultError);
        Pass(emit, 2, ContextVector, StateLayout.FaultVector);
        Load(emit, 0, 1, StateLayout.FaultExit);
        Store(emit, 2, ContextRip, 0);
        emit.Byte(0xC3);
        emit.PatchHere(none);
        emit.PatchHere(other);
        emit.Bytes([0x48, 0xB8]); // MOV RAX, imm64
        Int64(emit, before);
        emit.Bytes([0xFF, 0xE0]); // JMP RAX
        return code.ExecuteAddress;
    }

    private static void Pass(Emitter emit, int from, int offset, int state)
    {
        Load(emit, 0, from, offset);
        Store(emit, 1, state, 0);
    }

    /// <summary>MOV r64, [base+offset].</summary>
    private static void Load(Emitter emit, int to, int from, int offset) => emit.LoadMemory(to, from, -1, offset);

    /// <summary>MOV [base+offset], r64.</summary>
    private static void Store(Emitter emit, int to, int offset, int value) => emit.StoreMemory(value, to, -1, offset);

    private static void Int64(Emitter emit, nint value)
    {
        emit.Int32((int)value);
        emit.Int32((int)(value >> 32));
    }
}
