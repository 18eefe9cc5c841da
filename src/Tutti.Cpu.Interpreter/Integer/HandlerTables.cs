namespace Tutti.Cpu.Interpreter;

/// <summary>Chooses the compiled handler for an operation, a width, a form and a kind of address.</summary>
internal static unsafe partial class IntegerTranslator
{
    private static delegate*<CpuState*, Op*, Op*> AluHandler<TOperation>(int widthLog2, OperandForm form, AddressKind address, bool locked)
        where TOperation : struct, IAluOperation => widthLog2 switch
        {
            0 => AluHandler<TOperation, W8>(form, address, locked),
            1 => AluHandler<TOperation, W16>(form, address, locked),
            2 => AluHandler<TOperation, W32>(form, address, locked),
            _ => AluHandler<TOperation, W64>(form, address, locked),
        };

    private static delegate*<CpuState*, Op*, Op*> AluHandler<TOperation, TWidth>(OperandForm form, AddressKind address, bool locked)
        where TOperation : struct, IAluOperation
        where TWidth : struct, IWidth
    {
        if (locked)
        {
            return form == OperandForm.MemoryRegister
                ? &Alu<TOperation, TWidth>.LockedMemoryRegister
                : &Alu<TOperation, TWidth>.LockedMemoryImmediate;
        }

        switch (form)
        {
            case OperandForm.RegisterRegister:
                return &Alu<TOperation, TWidth>.RegisterRegister;
            case OperandForm.RegisterImmediate:
                return &Alu<TOperation, TWidth>.RegisterImmediate;
            case OperandForm.RegisterMemory:
                return address switch
                {
                    AddressKind.Flat => &Alu<TOperation, TWidth>.RegisterMemory<FlatAddress>,
                    AddressKind.Long => &Alu<TOperation, TWidth>.RegisterMemory<LongAddress>,
                    _ => &Alu<TOperation, TWidth>.RegisterMemory<SegmentedAddress>,
                };
            case OperandForm.MemoryRegister:
                return address switch
                {
                    AddressKind.Flat => &Alu<TOperation, TWidth>.MemoryRegister<FlatAddress>,
                    AddressKind.Long => &Alu<TOperation, TWidth>.MemoryRegister<LongAddress>,
                    _ => &Alu<TOperation, TWidth>.MemoryRegister<SegmentedAddress>,
                };
            default:
                return address switch
                {
                    AddressKind.Flat => &Alu<TOperation, TWidth>.MemoryImmediate<FlatAddress>,
                    AddressKind.Long => &Alu<TOperation, TWidth>.MemoryImmediate<LongAddress>,
                    _ => &Alu<TOperation, TWidth>.MemoryImmediate<SegmentedAddress>,
                };
        }
    }

    private static delegate*<CpuState*, Op*, Op*> UnaryHandler<TOperation>(int widthLog2, bool memory, AddressKind address, bool locked)
        where TOperation : struct, IUnaryOperation => widthLog2 switch
        {
            0 => UnaryHandler<TOperation, W8>(memory, address, locked),
            1 => UnaryHandler<TOperation, W16>(memory, address, locked),
            2 => UnaryHandler<TOperation, W32>(memory, address, locked),
            _ => UnaryHandler<TOperation, W64>(memory, address, locked),
        };

    private static delegate*<CpuState*, Op*, Op*> UnaryHandler<TOperation, TWidth>(bool memory, AddressKind address, bool locked)
        where TOperation : struct, IUnaryOperation
        where TWidth : struct, IWidth
    {
        if (locked)
        {
            return &Unary<TOperation, TWidth>.Locked;
        }

        if (!memory)
        {
            return &Unary<TOperation, TWidth>.Register;
        }

        return address == AddressKind.Flat
            ? &Unary<TOperation, TWidth>.Memory<FlatAddress>
            : &Unary<TOperation, TWidth>.Memory<AnyAddress>;
    }

    private static delegate*<CpuState*, Op*, Op*> MoveHandler(int widthLog2, OperandForm form, AddressKind address) => widthLog2 switch
    {
        0 => MoveHandler<W8>(form, address),
        1 => MoveHandler<W16>(form, address),
        2 => MoveHandler<W32>(form, address),
        _ => MoveHandler<W64>(form, address),
    };

    private static delegate*<CpuState*, Op*, Op*> MoveHandler<TWidth>(OperandForm form, AddressKind address)
        where TWidth : struct, IWidth
    {
        switch (form)
        {
            case OperandForm.RegisterRegister:
                return &Move<TWidth>.RegisterRegister;
            case OperandForm.RegisterImmediate:
                return &Move<TWidth>.RegisterImmediate;
            case OperandForm.RegisterMemory:
                return address switch
                {
                    AddressKind.Flat => &Move<TWidth>.RegisterMemory<FlatAddress>,
                    AddressKind.Long => &Move<TWidth>.RegisterMemory<LongAddress>,
                    _ => &Move<TWidth>.RegisterMemory<SegmentedAddress>,
                };
            case OperandForm.MemoryRegister:
                return address switch
                {
                    AddressKind.Flat => &Move<TWidth>.MemoryRegister<FlatAddress>,
                    AddressKind.Long => &Move<TWidth>.MemoryRegister<LongAddress>,
                    _ => &Move<TWidth>.MemoryRegister<SegmentedAddress>,
                };
            default:
                return address switch
                {
                    AddressKind.Flat => &Move<TWidth>.MemoryImmediate<FlatAddress>,
                    AddressKind.Long => &Move<TWidth>.MemoryImmediate<LongAddress>,
                    _ => &Move<TWidth>.MemoryImmediate<SegmentedAddress>,
                };
        }
    }

    private static delegate*<CpuState*, Op*, Op*> ExtendHandler(int toLog2, int fromLog2, bool signed, bool memory, AddressKind address) => (toLog2, fromLog2) switch
    {
        (1, 0) => ExtendHandler<W16, W8>(signed, memory, address),
        (1, 1) => ExtendHandler<W16, W16>(signed, memory, address),
        (2, 0) => ExtendHandler<W32, W8>(signed, memory, address),
        (2, 1) => ExtendHandler<W32, W16>(signed, memory, address),
        (2, 2) => ExtendHandler<W32, W32>(signed, memory, address),
        (3, 0) => ExtendHandler<W64, W8>(signed, memory, address),
        (3, 1) => ExtendHandler<W64, W16>(signed, memory, address),
        _ => ExtendHandler<W64, W32>(signed, memory, address),
    };

    private static delegate*<CpuState*, Op*, Op*> ExtendHandler<TTo, TFrom>(bool signed, bool memory, AddressKind address)
        where TTo : struct, IWidth
        where TFrom : struct, IWidth
    {
        if (!memory)
        {
            return signed ? &MoveSignExtended<TTo, TFrom>.Register : &MoveZeroExtended<TTo, TFrom>.Register;
        }

        if (address == AddressKind.Flat)
        {
            return signed ? &MoveSignExtended<TTo, TFrom>.Memory<FlatAddress> : &MoveZeroExtended<TTo, TFrom>.Memory<FlatAddress>;
        }

        return signed ? &MoveSignExtended<TTo, TFrom>.Memory<AnyAddress> : &MoveZeroExtended<TTo, TFrom>.Memory<AnyAddress>;
    }

    private static delegate*<CpuState*, Op*, Op*> ShiftHandler<TOperation>(int widthLog2, bool memory, bool inCl)
        where TOperation : struct, IShiftOperation => widthLog2 switch
        {
            0 => ShiftHandler<TOperation, W8>(memory, inCl),
            1 => ShiftHandler<TOperation, W16>(memory, inCl),
            2 => ShiftHandler<TOperation, W32>(memory, inCl),
            _ => ShiftHandler<TOperation, W64>(memory, inCl),
        };

    private static delegate*<CpuState*, Op*, Op*> ShiftHandler<TOperation, TWidth>(bool memory, bool inCl)
        where TOperation : struct, IShiftOperation
        where TWidth : struct, IWidth
    {
        if (memory)
        {
            return inCl ? &Shift<TOperation, TWidth>.MemoryCl : &Shift<TOperation, TWidth>.MemoryImmediate;
        }

        return inCl ? &Shift<TOperation, TWidth>.RegisterCl : &Shift<TOperation, TWidth>.RegisterImmediate;
    }

    private static delegate*<CpuState*, Op*, Op*> DoubleShiftHandler<TWidth>(bool left, bool memory)
        where TWidth : struct, IWidth
    {
        if (memory)
        {
            return left ? &DoubleShift<TWidth>.LeftMemory : &DoubleShift<TWidth>.RightMemory;
        }

        return left ? &DoubleShift<TWidth>.LeftRegister : &DoubleShift<TWidth>.RightRegister;
    }

    private static delegate*<CpuState*, Op*, Op*> BitHandler<TOperation>(int widthLog2, OperandForm form)
        where TOperation : struct, IBitOperation => widthLog2 switch
        {
            1 => BitHandler<TOperation, W16>(form),
            2 => BitHandler<TOperation, W32>(form),
            _ => BitHandler<TOperation, W64>(form),
        };

    private static delegate*<CpuState*, Op*, Op*> BitHandler<TOperation, TWidth>(OperandForm form)
        where TOperation : struct, IBitOperation
        where TWidth : struct, IWidth => form switch
        {
            OperandForm.RegisterRegister => &Bits<TOperation, TWidth>.RegisterRegister,
            OperandForm.RegisterImmediate => &Bits<TOperation, TWidth>.RegisterImmediate,
            OperandForm.MemoryRegister => &Bits<TOperation, TWidth>.MemoryRegister,
            _ => &Bits<TOperation, TWidth>.MemoryImmediate,
        };

    private static delegate*<CpuState*, Op*, Op*> ScanHandler<TWidth>(bool forward, bool memory)
        where TWidth : struct, IWidth
    {
        if (memory)
        {
            return forward ? &BitScan<TWidth>.ForwardMemory : &BitScan<TWidth>.ReverseMemory;
        }

        return forward ? &BitScan<TWidth>.ForwardRegister : &BitScan<TWidth>.ReverseRegister;
    }

    private static delegate*<CpuState*, Op*, Op*> ExchangeHandler<TWidth>(Iced.Intel.Mnemonic mnemonic, bool memory)
        where TWidth : struct, IWidth => mnemonic switch
        {
            Iced.Intel.Mnemonic.Xchg => memory ? &Exchange<TWidth>.Memory : &Exchange<TWidth>.Registers,
            Iced.Intel.Mnemonic.Xadd => memory ? &Exchange<TWidth>.AddMemory : &Exchange<TWidth>.AddRegisters,
            _ => memory ? &Exchange<TWidth>.CompareMemory : &Exchange<TWidth>.CompareRegisters,
        };

    private static delegate*<CpuState*, Op*, Op*> MultiplyHandler<TWidth>(Iced.Intel.Mnemonic mnemonic, int operands, bool memory)
        where TWidth : struct, IWidth => (mnemonic, operands) switch
        {
            (Iced.Intel.Mnemonic.Mul, _) => memory ? &MultiplyDivide<TWidth>.MultiplyMemory : &MultiplyDivide<TWidth>.MultiplyRegister,
            (Iced.Intel.Mnemonic.Div, _) => memory ? &MultiplyDivide<TWidth>.DivideMemory : &MultiplyDivide<TWidth>.DivideRegister,
            (Iced.Intel.Mnemonic.Idiv, _) => memory ? &MultiplyDivide<TWidth>.DivideSignedMemory : &MultiplyDivide<TWidth>.DivideSignedRegister,
            (_, 1) => memory ? &MultiplyDivide<TWidth>.MultiplySignedMemory : &MultiplyDivide<TWidth>.MultiplySignedRegister,
            (_, 2) => memory ? &MultiplyDivide<TWidth>.ProductMemory : &MultiplyDivide<TWidth>.ProductRegister,
            _ => memory ? &MultiplyDivide<TWidth>.ProductMemoryImmediate : &MultiplyDivide<TWidth>.ProductRegisterImmediate,
        };

    private static delegate*<CpuState*, Op*, Op*> StringHandler<TWidth>(char operation)
        where TWidth : struct, IWidth => operation switch
        {
            'M' => &Strings<TWidth>.Move,
            'S' => &Strings<TWidth>.Store,
            'L' => &Strings<TWidth>.Load,
            'C' => &Strings<TWidth>.Compare,
            _ => &Strings<TWidth>.Scan,
        };
}
