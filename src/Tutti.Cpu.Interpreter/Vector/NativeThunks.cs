using System.Runtime.InteropServices;
using Iced.Intel;
using Tutti.Host;

namespace Tutti.Cpu.Interpreter;

/// <summary>What makes one thunk differ from another.</summary>
/// <param name="Code">The instruction.</param>
/// <param name="Immediate">Its immediate byte, or the number of its ST(i) operand.</param>
/// <param name="InMemory">VEX only: its r/m operand is in memory.</param>
internal readonly record struct ThunkKey(Code Code, byte Immediate, bool InMemory = false);

/// <summary>
/// The emitted thunks of the whole process: each runs one guest instruction on the host processor. Made when the first
/// such instruction is decoded and kept for good; their number is bounded by the instruction set.
/// </summary>
internal static unsafe class NativeThunks
{
    /// <summary>Bytes; all thunks there can be (some 62,000, mostly imm8 variants) take less than two thirds. Untouched pages cost nothing.</summary>
    public const long Capacity = 16 << 20;

    private const int Alignment = 16;

    private static readonly Lock Gate = new();
    private static readonly Dictionary<ThunkKey, nint> Made = [];
    private static ExecutableMapping? _mapping;
    private static long _used;

    /// <summary>Bytes taken.</summary>
    public static long Used => Volatile.Read(ref _used);

    /// <summary>Gets the mapping, so that a host that forbids it says so before a guest runs.</summary>
    /// <exception cref="HostException">The host forbids executable mappings.</exception>
    public static void Prepare()
    {
        lock (Gate)
        {
            _mapping ??= new ExecutableMapping(Capacity);
        }
    }

    /// <summary>Address of a thunk, made with <paramref name="build"/> when it is new; 0 when there is no room left.</summary>
    /// <exception cref="HostException">The host forbids executable mappings.</exception>
    public static nint Get(ThunkKey key, in Instruction instruction, Func<Instruction, List<Instruction>> build)
    {
        lock (Gate)
        {
            if (!Made.TryGetValue(key, out nint address))
            {
                address = Emit(build(instruction));
                Made[key] = address;
            }

            return address;
        }
    }

    private static nint Emit(List<Instruction> instructions)
    {
        _mapping ??= new ExecutableMapping(Capacity);
        var code = new Bytes();
        Encoder encoder = Encoder.Create(64, code);
        ulong start = (ulong)(_mapping.ExecuteAddress + (nint)_used);
        foreach (Instruction instruction in instructions)
        {
            encoder.Encode(instruction, start + (ulong)code.List.Count);
        }

        if (_used + code.List.Count > _mapping.Length)
        {
            return 0;
        }

        // SAFETY: the bytes fit; nothing runs at this place before its address is handed out below.
        CollectionsMarshal.AsSpan(code.List).CopyTo(new Span<byte>((byte*)_mapping.WriteAddress + _used, code.List.Count));
        _used += (code.List.Count + Alignment - 1) & -Alignment;
        return (nint)start;
    }

    private sealed class Bytes : CodeWriter
    {
        public List<byte> List { get; } = [];

        public override void WriteByte(byte value) => List.Add(value);
    }
}
