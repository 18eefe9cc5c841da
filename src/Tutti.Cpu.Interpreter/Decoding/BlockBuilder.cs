using System.Runtime.InteropServices;
using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>Decodes guest bytes into the ops of a block.</summary>
internal sealed unsafe class BlockBuilder : IBlockBuilder
{
    private readonly CodeWords _reader = new();
    private readonly GuestDecoder[] _decoders;
    private readonly FlagLiveness _liveness = new();
    private readonly Op* _ops;

    public BlockBuilder()
    {
        _decoders = [new(16, _reader), new(32, _reader), new(64, _reader)];

        // SAFETY: one op more than instructions, for the end-of-block op; freed in Dispose.
        _ops = (Op*)NativeMemory.AlignedAlloc((nuint)((Block.MaxInstructions + 1) * sizeof(Op)), 64);
    }

    /// <inheritdoc/>
    public Op* Ops => _ops;

    /// <inheritdoc/>
    public int OpCount { get; private set; }

    /// <inheritdoc/>
    public int ByteLength { get; private set; }

    /// <inheritdoc/>
    public Mnemonic FirstMnemonic { get; private set; }

    /// <inheritdoc/>
    public long BlockCount { get; private set; }

    /// <inheritdoc/>
    public long InstructionCount { get; private set; }

    /// <inheritdoc/>
    public Action<ulong, uint, int, int>? OnBuilt { get; set; }

    public void Dispose() => NativeMemory.AlignedFree(_ops);

    /// <inheritdoc/>
    public void Build(byte* code, int length, uint mode, ulong rip, int maxInstructions)
    {
        GuestDecoder decoder = _decoders[mode & CodeMode.BitnessMask];
        _reader.Start(code, length);
        decoder.IP = rip;
        var context = new TranslationContext { Mode = mode, BlockRip = rip };
        OpCount = 0;
        ByteLength = 0;
        int count = 0;
        _liveness.Begin();
        while (count < maxInstructions && !context.EndsBlock)
        {
            decoder.Decode(out Instruction instruction);
            if (instruction.IsInvalid && decoder.HasRunOut)
            {
                break;
            }

            FirstMnemonic = count == 0 ? instruction.Mnemonic : FirstMnemonic;
            Op* op = _ops + OpCount;
            *op = default;
            op->Length = (byte)instruction.Length;
            op->IpOffset = (ushort)ByteLength;
            op->Count = (ushort)++count;
            context.Previous = context.Fusable;
            context.Fusable = null;
            context.Fused = false;
            InstructionTranslator.Translate(instruction, op, ref context);
            if (decoder.IsTooLong(instruction, ByteLength))
            {
                op->Handler = &InstructionTranslator.TooLong;
            }

            _liveness.Add(instruction, op);
            ByteLength += instruction.Length;
            OpCount += context.Fused ? 0 : 1;
        }

        _liveness.Apply();
        if (ByteLength > 0 && !context.EndsBlock)
        {
            Op* end = _ops + OpCount++;
            *end = default;
            end->IpOffset = (ushort)ByteLength;
            end->Count = (ushort)count;
            end->Handler = &Branches.EndOfBlock;
        }

        BlockCount++;
        InstructionCount += count;
        OnBuilt?.Invoke(rip, mode, ByteLength, count);
    }
}
